"""Frames of one video file; with ``encode``, the only importer of PyAV.

A frame's number is its place in the order in which the decoder gives frames out, counted from 0.
What a container's header says about their number or order is not used. One thread per file: work
is spread over files, and threads inside one cost more than they bring.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NoReturn

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

Reason = Literal[
    "empty_file",
    "not_a_video",
    "still_image",
    "unreadable",
    "no_video_stream",
    "too_short",
    "too_large",
    "corrupt",
    "bad_sidecar",
    "crashed_decoder",
]
"""Why a file did not become a sample."""

MAX_PIXELS = 8192 * 8192
"""Of one frame: a header of a few bytes may claim a size that no memory holds."""

# Containers of video only: no playlists, no pictures, no text art, no raw streams that any data
# may be mistaken for.
_CONTAINERS = {
    "format_whitelist": "mov,matroska,avi,gif,flv,mpeg,mpegts,mpegvideo,asf,ogg,rm,mxf,ivf",
    "protocol_whitelist": "none",
}
_PIXEL_LIMIT = {"max_pixels": str(MAX_PIXELS)}
_NO_LOOK_AHEAD = {"probesize": "32", "analyzeduration": "1"}


class Rejected(Exception):  # noqa: N818 - a verdict on an input, not a fault of the program
    """A file that cannot become a sample: a reason code, and a short true sentence."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that it survives pickling
        self.reason: Reason = reason
        self.detail = detail

    def __str__(self) -> str:
        """Both parts in one line."""
        return f"{self.reason}: {self.detail}"


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
    """Presentation time of each frame."""
    keyframes: list[int]
    """Frame numbers."""
    rotation: int
    """Degrees anticlockwise that turn a frame upright: 0, 90, 180 or 270."""
    first: NDArray[np.uint8]
    """The first frame, upright RGB."""
    last_keyframe: NDArray[np.uint8]
    """The last keyframe, or the first frame where none is marked."""


def survey(data: bytes) -> Survey:
    """Decodes a whole file and notes what came out.

    Raises:
        Rejected: it cannot be opened, holds no video, gives no frame, or decoding stops.
    """
    pts: list[int | None] = []
    keyframes: list[int] = []
    first = last_keyframe = None
    with _opened(data) as (container, stream):
        for frame in _decoded(container, stream):
            first = first or frame
            if frame.key_frame:
                keyframes.append(len(pts))
                last_keyframe = frame
            pts.append(frame.pts)
        if first is None:
            raise Rejected("too_short", "frames decoded: 0")
        return Survey(
            codec=stream.codec_context.name,
            container=container.format.name,
            average_rate=float(stream.average_rate or 0),
            time_base=stream.time_base or Fraction(0),
            pts=pts,
            keyframes=keyframes,
            rotation=_rotation(first),
            first=_upright(first),
            last_keyframe=_upright(last_keyframe or first),
        )


def decode_frames(
    data: bytes,
    frames: Sequence[int],
    *,
    keyframes: Sequence[int],
    keyframe_pts: Sequence[int],
) -> NDArray[np.uint8]:
    """The numbered frames, upright RGB, shape [len(frames), height, width, 3].

    Decoding starts at the last keyframe at or before the first frame wanted, and at the beginning
    where seeking there fails. Frame numbers may repeat and come in any order. Where a video
    changes its size on the way, all frames take the size of the first one decoded here.

    Raises:
        Rejected: a frame is not there, or decoding fails before it.
    """
    wanted = {int(number) for number in frames}
    before = sum(number <= min(wanted) for number in keyframes) - 1
    found: dict[int, NDArray[np.uint8]] = {}
    if before > 0:
        found = seek_frames(data, wanted, keyframes[before], keyframe_pts[before])
    if len(found) < len(wanted):
        with _opened(data) as (container, stream):
            found = _pick(_decoded(container, stream), wanted)
    if len(found) < len(wanted):
        raise Rejected("corrupt", f"frame {min(wanted - found.keys())} does not decode")
    return np.stack([found[int(number)] for number in frames])


def seek_frames(
    data: bytes, wanted: set[int], keyframe: int, pts: int
) -> dict[int, NDArray[np.uint8]]:
    """The wanted frames that decode after a seek to ``keyframe``, whose timestamp is ``pts``.

    Upright RGB by frame number; incomplete or empty where seeking or decoding fails.
    """
    with _opened(data) as (container, stream):
        try:
            container.seek(pts, stream=stream)
            return _pick(_from_timestamp(_decoded(container, stream), pts), wanted, keyframe)
        except (av.FFmpegError, Rejected):
            return {}


def decode_all(data: bytes, limit: int) -> NDArray[np.uint8]:
    """The first ``limit`` frames or all there are, upright RGB, [frames, height, width, 3].

    Raises:
        Rejected: there is no frame, or decoding fails on the way.
    """
    with _opened(data) as (container, stream):
        found = _pick(_decoded(container, stream), set(range(limit)))
    if not found:
        raise Rejected("too_short", "frames decoded: 0")
    return np.stack(list(found.values()))


def decode_scaled(data: bytes, width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """All frames one after another, upright RGB, scaled to [height, width, 3].

    Raises:
        Rejected: decoding fails on the way.
    """
    with _opened(data) as (container, stream):
        for frame in _decoded(container, stream):
            yield _upright(frame, (height, width))


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


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    count = 0
    try:
        for packet in container.demux(stream):
            # AVI marks repeated frames by empty packets, which a decoder would take for the end;
            # the real end is one without a timestamp.
            if packet.size or packet.dts is None:
                for frame in packet.decode():
                    yield frame
                    count += 1
    except av.FFmpegError as error:
        detail = f"frames decoded: {count}; then decoding stops: {error.strerror}"
        raise Rejected("corrupt", detail) from error


@contextmanager
def _opened(data: bytes) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream."""
    with _container(data, _PIXEL_LIMIT) as container:
        stream = _first_video(container)
        context = stream.codec_context
        # libav forgets a size that is above the limit, so that it has to be asked without one.
        width, height = (context.width, context.height) if context.width else _claimed_size(data)
        if width * height > MAX_PIXELS:
            raise Rejected("too_large", f"{width}x{height} pixels, the limit is {MAX_PIXELS}")
        context.options = _PIXEL_LIMIT
        context.thread_type = "SLICE"
        context.thread_count = 1
        yield container, stream


def _container(data: bytes, options: dict[str, str]) -> InputContainer:
    try:
        return av.open(
            io.BytesIO(data),
            "r",
            metadata_errors="ignore",
            options=_CONTAINERS | options,
            io_open=_refuse_reference,
        )
    except av.FFmpegError as error:
        raise Rejected("unreadable", f"cannot be opened: {error.strerror}") from error


def _first_video(container: InputContainer) -> VideoStream:
    """The first stream of pictures that is not a cover of some music."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise Rejected("unreadable", "there is no decoder for its codec")
            return stream
    kinds = " and ".join(sorted({stream.type for stream in container.streams}))
    raise Rejected("no_video_stream", f"holds {kinds} only" if kinds else "holds no stream at all")


def _claimed_size(data: bytes) -> tuple[int, int]:
    """Width and height by the header, of which no frame is decoded."""
    with _container(data, _NO_LOOK_AHEAD) as container:
        context = _first_video(container).codec_context
        return context.width, context.height


def _refuse_reference(url: str, _flags: int, _options: dict[str, str]) -> NoReturn:
    """Answers a container that names other files or addresses."""
    raise PermissionError(f"a video may not open {url!r}")


def _rotation(frame: VideoFrame) -> int:
    """Degrees anticlockwise in quarter turns; 0 for a display matrix that is no rotation."""
    return frame.rotation % 360 if frame.rotation % 90 == 0 else 0


def _upright(frame: VideoFrame, shape: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """RGB, turned upright, scaled to ``shape`` (height, width, ...) if one is given."""
    turns = _rotation(frame) // 90
    height, width = shape[:2] if shape else (None, None)
    if turns % 2:
        height, width = width, height
    picture = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, turns))
