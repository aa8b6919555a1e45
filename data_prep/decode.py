"""Whole videos, decoded; with ``encode`` and the other ``decode_...`` files, what imports PyAV.

A frame's number is its place in the order in which the decoder gives frames out, counted from 0.
What a container's header says about their number or order is not used. One thread per file: work
is spread over files, and threads inside one cost more than they bring.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sigma_pipeline.data_prep.decode_clip import NO_PTS, decoded, packet_times
from sigma_pipeline.data_prep.decode_open import MAX_PIXELS, opened
from sigma_pipeline.data_prep.verdicts import Rejected


@dataclass(frozen=True)
class Survey:
    """What passed by while a whole stream was decoded."""

    codec: str
    container: str
    average_rate: float
    """Frames per second by the header; 0 where it says nothing."""
    time_base: Fraction
    """Seconds per unit of ``pts``."""
    pts: list[int | None]
    """Presentation time of each frame; ``NO_PTS`` for all where packets bear other times, so that
    frames cannot be found by them."""
    keyframes: list[int]
    """Frame numbers; none where they cannot be sought."""
    rotation: int
    """Degrees anticlockwise that turn a frame upright: 0, 90, 180 or 270."""
    first: NDArray[np.uint8]
    """The first frame, upright RGB."""
    last_keyframe: NDArray[np.uint8]
    """The last keyframe, or the first frame where none is marked."""


Visit = Callable[[VideoFrame, VideoStream], None]
"""Is shown a frame as it was decoded, and the stream that it is of."""


def survey(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    max_frames: int | None = None,
    visit: Visit | None = None,
) -> Survey:
    """Decodes a whole file and notes what came out.

    ``visit`` is shown every frame, in order, and may change all but its pixels.

    Raises:
        Rejected: it is no video that can be opened and decoded, or larger than allowed.
    """
    pts: list[int | None] = []
    keyframes: list[int] = []
    first = last_keyframe = None
    with opened(data, max_pixels) as (container, stream):
        for frame in _limited(decoded(container, stream), max_frames):
            first = first or frame
            if frame.key_frame:
                keyframes.append(len(pts))
                last_keyframe = frame
            pts.append(frame.pts)
            if visit:
                visit(frame, stream)
        if not first:
            raise Rejected("too_short", "frames decoded: 0")
        is_timed = packet_times(data) == pts
        return Survey(
            codec=stream.codec_context.name,
            container=container.format.name,
            average_rate=float(stream.average_rate or 0),
            time_base=stream.time_base or Fraction(0),
            pts=pts if is_timed else [NO_PTS] * len(pts),
            keyframes=keyframes if is_timed else [],
            rotation=rotation_of(first),
            first=_upright(first),
            last_keyframe=_upright(last_keyframe or first),
        )


def seek_frames(
    data: bytes, wanted: set[int], keyframe: int, pts: int
) -> dict[int, NDArray[np.uint8]]:
    """The wanted frames that decode after a seek to ``keyframe``, whose timestamp is ``pts``.

    Upright RGB by frame number; incomplete or empty where seeking or decoding fails.
    """
    with opened(data) as (container, stream):
        try:
            container.seek(pts, stream=stream)
            return _pick(_from_timestamp(decoded(container, stream), pts), wanted, keyframe)
        except (av.FFmpegError, Rejected):
            return {}


def visit_frames(
    data: bytes,
    frames: range,
    *,
    keyframes: Sequence[int],
    keyframe_pts: Sequence[int],
    visit: Visit,
) -> None:
    """Shows ``visit`` the numbered frames in order, decoding from the last keyframe before them.

    Raises:
        Rejected: not all of them decode.
    """
    before = sum(number <= frames.start for number in keyframes) - 1
    number = visited = 0
    with opened(data) as (container, stream):
        passing = decoded(container, stream)
        if before > 0:
            number = keyframes[before]
            container.seek(keyframe_pts[before], stream=stream)
            passing = _from_timestamp(passing, keyframe_pts[before])
        for frame in passing:
            if number in frames:
                visit(frame, stream)
                visited += 1
            number += 1
            if number == frames.stop:
                break
    if visited < len(frames):
        raise Rejected("corrupt", f"frame {frames.start + visited} does not decode")


def decode_all(data: bytes, limit: int) -> NDArray[np.uint8]:
    """The first ``limit`` frames or all there are, upright RGB, [frames, height, width, 3].

    Raises:
        Rejected: there is no frame, or decoding fails on the way.
    """
    with opened(data) as (container, stream):
        found = _pick(decoded(container, stream), set(range(limit)))
    if not found:
        raise Rejected("too_short", "frames decoded: 0")
    return np.stack(list(found.values()))


def _limited(frames: Iterator[VideoFrame], max_frames: int | None) -> Iterator[VideoFrame]:
    for number, frame in enumerate(frames):
        if number == max_frames:
            raise Rejected("too_large", f"more than {max_frames} frames")
        yield frame


def _pick(
    frames: Iterable[VideoFrame], wanted: set[int], first: int = 0
) -> dict[int, NDArray[np.uint8]]:
    """Of ``frames``, numbered from ``first``, the wanted ones: upright RGB, all of one size."""
    found: dict[int, NDArray[np.uint8]] = {}
    shape: tuple[int, ...] | None = None
    for number, frame in enumerate(frames, start=first):
        if number in wanted:
            found[number] = _upright(frame, shape)
            shape = found[number].shape
        if len(found) == len(wanted):
            break
    return found


def _from_timestamp(frames: Iterator[VideoFrame], pts: int) -> Iterator[VideoFrame]:
    """``frames`` from the one at ``pts`` on; none where the seek went past it."""
    for frame in frames:
        if frame.pts is None or frame.pts > pts:
            return
        if frame.pts == pts:
            yield frame
            yield from frames


def rotation_of(frame: VideoFrame) -> int:
    """Degrees anticlockwise in quarter turns; 0 for a display matrix that is no rotation."""
    return frame.rotation % 360 if frame.rotation % 90 == 0 else 0


def _upright(frame: VideoFrame, shape: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """RGB, turned upright, scaled to ``shape`` (height, width, ...) if one is given."""
    turns = rotation_of(frame) // 90
    height, width = shape[:2] if shape else (None, None)
    if turns % 2:
        height, width = width, height
    picture = frame.reformat(width, height, "rgb24", threads=1).to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, turns))
