"""Opening a video in memory, untrusted as it is: the container and its first video stream.

Opened fully, libav reads and decodes the beginning to learn all about the streams, which takes
longer than decoding a short clip. Opened quickly, it takes what the header says.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from sigma_pipeline.data_prep.verdicts import Rejected

MAX_PIXELS = 67_200_000
"""Of one frame, 8192 by 8192 and a little: a header of a few bytes may claim a size that no memory
holds."""

# Containers of video only: no playlists, no pictures, no text art, no raw streams that any data
# may be mistaken for.
_CONTAINERS = {
    "format_whitelist": "mov,matroska,avi,gif,flv,mpeg,mpegts,mpegvideo,asf,ogg,rm,mxf,ivf",
    "protocol_whitelist": "none",
}
_NO_LOOK_AHEAD = {"probesize": "32", "analyzeduration": "1"}
# Decoding for stream information is forbidden by allowing no decoder; ours is not asked.
_HEADER_ONLY = _NO_LOOK_AHEAD | {"codec_whitelist": "none"}


@contextmanager
def opened(
    data: bytes, max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream.

    Raises:
        Rejected: it cannot be opened, holds no video, or its frames have too many pixels.
    """
    limit = {"max_pixels": str(max_pixels)}
    with _container(data, limit) as container:
        stream = _first_video(container)
        context = stream.codec_context
        # libav forgets a size that is above the limit, so that it has to be asked without one.
        width, height = (context.width, context.height) if context.width else _claimed_size(data)
        if width * height > max_pixels:
            raise Rejected("too_large", f"{width}x{height} pixels, the limit is {max_pixels}")
        _prepare(stream, limit)
        yield container, stream


@contextmanager
def quickly_opened(data: bytes) -> Iterator[tuple[InputContainer, VideoStream]]:
    """As ``opened``, by the header alone; timestamps of packets may be less complete.

    Raises:
        Rejected: it cannot be opened, or the header announces no video.
    """
    with _container(data, _HEADER_ONLY) as container:
        stream = _first_video(container)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        _prepare(stream, {"max_pixels": str(MAX_PIXELS)})
        yield container, stream


def _prepare(stream: VideoStream, options: dict[str, str]) -> None:
    context = stream.codec_context
    context.options = options
    context.thread_type = "SLICE"
    context.thread_count = 1


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
