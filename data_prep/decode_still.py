"""A JPEG or PNG picture in memory as a decoded frame, the same kind as those of videos."""

import av
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from sigma_pipeline.data_prep.decode_open import MAX_PIXELS
from sigma_pipeline.data_prep.verdicts import Rejected

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def decode_still(data: bytes) -> VideoFrame:
    """The picture, by its content a PNG file or else a JPEG file, as it is stored.

    Raises:
        Rejected: it is damaged, or neither.
    """
    context = _context("png" if data.startswith(_PNG_SIGNATURE) else "mjpeg")
    try:
        frames = context.decode(Packet(data)) + context.decode(None)
    except av.FFmpegError as error:
        raise Rejected("corrupt", f"is no whole JPEG or PNG picture: {error.strerror}") from error
    if not frames:
        raise Rejected("corrupt", "is no whole JPEG or PNG picture")
    return frames[0]


def _context(codec: str) -> VideoCodecContext:
    context = CodecContext.create(codec, "r")
    assert isinstance(context, VideoCodecContext)
    context.options = {"max_pixels": str(MAX_PIXELS), "err_detect": "explode"}
    context.thread_type = "SLICE"
    context.thread_count = 1
    return context
