"""The verdict on one file: a video with these facts, or rejected for this reason."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sigma_pipeline.data_prep.contents import Kind, describe, missing_bytes
from sigma_pipeline.data_prep.decode import Reason, Rejected, Survey, seek_frames, survey

_REASON_OF_KIND: dict[Kind, Reason] = {
    "image": "still_image",
    "audio": "no_video_stream",
    "archive": "not_a_video",
    "text": "not_a_video",
    "other": "not_a_video",
}


@dataclass(frozen=True)
class Probe:
    """What decoding a whole video found; fields as in ``index.SampleRow``."""

    frames: int
    fps: float
    width: int
    height: int
    rotation: int
    keyframes: tuple[int, ...]
    keyframe_pts: tuple[int, ...]
    codec: str
    container: str


def probe(data: bytes, min_frames: int) -> Probe:
    """Decodes every frame of a video file.

    Raises:
        Rejected: the file is anything but a video of at least ``min_frames`` frames that decodes
            to its end.
    """
    if not data:
        raise Rejected("empty_file", "0 bytes")
    content = describe(data)
    if reason := _REASON_OF_KIND.get(content.kind):
        raise Rejected(reason, f"the content is {content.name}")
    missing = missing_bytes(data)
    note = f"; the file is cut short, at least {missing} bytes are missing" if missing else ""
    try:
        facts = survey(data)
    except Rejected as verdict:
        if content.kind == "unknown" and verdict.reason == "unreadable":
            raise Rejected("not_a_video", "the content is of no known video format") from verdict
        raise Rejected(verdict.reason, verdict.detail + note) from verdict
    if missing:
        raise Rejected("corrupt", f"frames decoded: {len(facts.pts)}{note}")
    if len(facts.pts) < min_frames:
        raise Rejected("too_short", f"frames decoded: {len(facts.pts)}; needed: {min_frames}")
    return _probe_of(data, facts)


def _probe_of(data: bytes, facts: Survey) -> Probe:
    keyframes, keyframe_pts = _reliable_keyframes(data, facts)
    height, width = facts.first.shape[:2]
    return Probe(
        frames=len(facts.pts),
        fps=_frames_per_second(facts),
        width=width,
        height=height,
        rotation=facts.rotation,
        keyframes=keyframes,
        keyframe_pts=keyframe_pts,
        codec=facts.codec,
        container=facts.container,
    )


def _ordered_pts(facts: Survey) -> list[int]:
    """The timestamps, if each frame has one and it is later than the one before; else none.

    AVI has none of its own: where frames were reordered, libav's guess goes back and forth.
    """
    pts = [time for time in facts.pts if time is not None]
    is_ordered = len(pts) == len(facts.pts) and all(a < b for a, b in pairwise(pts))
    return pts if is_ordered else []


def _frames_per_second(facts: Survey) -> float:
    """By the frames' own timestamps; without usable ones, the header's rate."""
    pts = _ordered_pts(facts)
    if len(pts) < 2 or not facts.time_base:
        return facts.average_rate
    return round((len(pts) - 1) / float((pts[-1] - pts[0]) * facts.time_base), 6)


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
