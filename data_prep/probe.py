"""The verdict on one file: a video with these facts, or rejected for this reason."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from sigma_pipeline.data_prep.config import LimitsConfig
from sigma_pipeline.data_prep.contents import Kind, describe, missing_bytes
from sigma_pipeline.data_prep.decode import Survey, Visit, seek_frames, survey
from sigma_pipeline.data_prep.decode_clip import decoded, packet_times
from sigma_pipeline.data_prep.decode_open import opened
from sigma_pipeline.data_prep.decode_packets import PacketFacts, read_packets
from sigma_pipeline.data_prep.verdicts import Reason, Rejected

_REASON_OF_KIND: dict[Kind, Reason] = {
    "image": "still_image",
    "audio": "no_video_stream",
    "archive": "not_a_video",
    "text": "not_a_video",
    "other": "not_a_video",
}
_FPS_WHERE_UNKNOWN = 25.0


@dataclass(frozen=True)
class Probe:
    """What decoding a whole video found; fields as in ``rows.SampleRow``."""

    frames: int
    fps: float
    width: int
    height: int
    rotation: int
    keyframes: tuple[int, ...]
    keyframe_pts: tuple[int, ...]
    codec: str
    container: str


def probe(data: bytes, min_frames: int, limits: LimitsConfig | None = None) -> Probe:
    """Decodes every frame of a video file.

    Raises:
        Rejected: the file is anything but a video of at least ``min_frames`` frames that decodes
            to its end, or is larger than allowed.
    """
    return probe_of(data, examine(data, min_frames, limits or LimitsConfig()))


def examine(
    data: bytes, min_frames: int, limits: LimitsConfig, visit: Visit | None = None
) -> Survey:
    """As ``probe``, but gives what passed by, and shows each frame to ``visit``."""
    if not data:
        raise Rejected("empty_file", "0 bytes")
    content = describe(data)
    if reason := _REASON_OF_KIND.get(content.kind):
        raise Rejected(reason, f"the content is {content.name}")
    missing = missing_bytes(data)
    note = f"; the file is cut short, at least {missing} bytes are missing" if missing else ""
    max_pixels = int(limits.megapixels * 1e6)
    try:
        facts = survey(data, max_pixels=max_pixels, max_frames=limits.frames, visit=visit)
    except Rejected as verdict:
        if content.kind == "unknown" and verdict.reason == "unreadable":
            raise Rejected("not_a_video", "the content is of no known video format") from verdict
        raise Rejected(verdict.reason, verdict.detail + note) from verdict
    if missing:
        raise Rejected("corrupt", f"frames decoded: {len(facts.pts)}{note}")
    if len(facts.pts) < min_frames:
        raise Rejected("too_short", f"frames decoded: {len(facts.pts)}; needed: {min_frames}")
    return facts


def probe_of(data: bytes, facts: Survey) -> Probe:
    """What the index keeps of ``facts``, which ``examine`` found in ``data``."""
    keyframes, keyframe_pts = _reliable_keyframes(data, facts)
    height, width = facts.first.shape[:2]
    return Probe(
        frames=len(facts.pts),
        fps=frames_per_second(facts),
        width=width,
        height=height,
        rotation=facts.rotation,
        keyframes=keyframes,
        keyframe_pts=keyframe_pts,
        codec=facts.codec,
        container=facts.container,
    )


def examine_packets(data: bytes, min_frames: int, limits: LimitsConfig) -> PacketFacts | None:
    """What ``examine`` would find, without decoding all; see ``decode_packets``.

    None where that cannot be told, or anything is wrong with the file: ``examine`` says what.
    """
    if not data or describe(data).kind != "video" or missing_bytes(data):
        return None
    facts = read_packets(data, limits.frames)
    if not facts or facts.width * facts.height > limits.megapixels * 1e6:
        return None
    return facts if len(facts.pts) >= min_frames else None


def probe_of_packets(facts: PacketFacts) -> Probe:
    """What the index keeps of ``facts``."""
    return Probe(
        frames=len(facts.pts),
        fps=frames_per_second(facts),
        width=facts.width,
        height=facts.height,
        rotation=facts.rotation,
        keyframes=tuple(facts.keyframes),
        keyframe_pts=tuple(facts.pts[number] for number in facts.keyframes),
        codec=facts.codec,
        container=facts.container,
    )


def frame_times_s(facts: Survey | PacketFacts) -> list[float]:
    """When each frame is shown, in seconds from the first one."""
    if pts := _ordered_pts(facts):
        tick = facts.time_base
        return [(time - pts[0]) * tick.numerator / tick.denominator for time in pts]
    fps = facts.average_rate or _FPS_WHERE_UNKNOWN
    return [number / fps for number in range(len(facts.pts))]


def frames_per_second(facts: Survey | PacketFacts) -> float:
    """By the frames' own timestamps; without usable ones, the header's rate."""
    pts = _ordered_pts(facts)
    if len(pts) < 2 or not facts.time_base:
        return facts.average_rate
    return round((len(pts) - 1) / float((pts[-1] - pts[0]) * facts.time_base), 6)


def probe_transcoded(data: bytes, *, frames: int, frame_grid: int) -> tuple[Probe, int]:
    """What the index keeps of a video that ``transcode`` made of ``frames`` frames, and its grid.

    Decodes just the frames that others refer to, which shows whether those at multiples of
    ``frame_grid`` are among them. If not, every frame is decoded, and the grid is 1.

    Raises:
        Rejected: it does not decode.
    """
    times: list[int] = []
    keyframes: dict[int, int] = {}
    with opened(data) as (container, stream):
        stream.codec_context.skip_frame = "NONREF" if frame_grid > 1 else "DEFAULT"
        rate, tick = stream.average_rate or Fraction(0), stream.time_base or Fraction(0)
        codec, name = stream.codec_context.name, container.format.name
        size = stream.codec_context.width, stream.codec_context.height
        for frame in decoded(container, stream):
            times.append(frame.pts or 0)
            if frame.key_frame:
                keyframes[round((times[-1] - times[0]) * tick * rate)] = times[-1]
    given = {round((time - times[0]) * tick * rate) for time in times}
    is_whole = len(packet_times(data) or ()) == frames
    if not is_whole or not given >= set(range(0, frames, frame_grid)):
        return probe(data, min_frames=1), 1
    facts = Probe(
        frames=frames,
        fps=round(float(rate), 6),
        width=size[0],
        height=size[1],
        rotation=0,
        keyframes=tuple(keyframes),
        keyframe_pts=tuple(keyframes.values()),
        codec=codec,
        container=name,
    )
    return facts, frame_grid


def _ordered_pts(facts: Survey | PacketFacts) -> list[int]:
    """The timestamps, if each frame has one and it is later than the one before; else none.

    AVI has none of its own: where frames were reordered, libav's guess goes back and forth.
    """
    pts = [time for time in facts.pts if time is not None]
    is_ordered = len(pts) == len(facts.pts) and all(a < b for a, b in pairwise(pts))
    return pts if is_ordered else []


def _reliable_keyframes(data: bytes, facts: Survey) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Frames to seek to and their timestamps; just the first one where seeking goes wrong.

    Seeking is trusted where it brings the same picture of the last keyframe as decoding through.
    """
    pts = _ordered_pts(facts)
    numbers = [0, *(number for number in facts.keyframes if number > 0)]
    last = numbers[-1]
    if pts and last > 0:
        again = seek_frames(data, {last}, last, pts[last])
        if last in again and np.array_equal(again[last], facts.last_keyframe):
            return tuple(numbers), tuple(pts[number] for number in numbers)
    return (0,), (facts.pts[0] or 0,)
