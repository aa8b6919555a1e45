"""Videos re-encoded: short side resized, upright, square pixels, a structure that lets one skip.

Every ``gop_frames`` a keyframe, and exactly ``disposable_frames`` frames that nothing refers to
between two others: a clip of every fourth frame need not decode the three between. Frames stay one
to one; the rate is constant, the average of the source.
"""

import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sigma_pipeline.data_prep.config import TranscodeConfig
from sigma_pipeline.data_prep.decode import rotation_of
from sigma_pipeline.data_prep.encode import Encoder, Encoding, frame_rate
from sigma_pipeline.data_prep.verdicts import Rejected

_MAX_ASPECT = 8
"""Pixels that are longer than this are taken for a damaged header's."""
_MAX_SIDE = 16384


class Transcoder:
    """One video, of which each frame passes by alone, as it was decoded.

    Deterministic on one machine. Memory holds what the frames were encoded to; the finished file
    is written to the folder for temporary files (``TMPDIR``) and read back.
    """

    def __init__(self, config: TranscodeConfig) -> None:
        self._config = config
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name, "video.mp4")
        self._encoder: Encoder | None = None
        self._size = (0, 0)
        self._matrix: int = Colorspace.ITU601
        """Of the colours; that of pictures without one, as readers assume."""

    def __enter__(self) -> Self:
        """This object itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the file."""
        self._encoder = None
        self._folder.cleanup()

    @property
    def num_frames(self) -> int:
        """Of those added so far."""
        return self._encoder.num_frames if self._encoder else 0

    def add(self, frame: VideoFrame, stream: VideoStream) -> None:
        """The next frame, of a decoded stream; overwritten. A ``decode.Visit``."""
        if not self._encoder:
            aspect = stream.sample_aspect_ratio or Fraction(1)
            self._choose_size(frame, aspect)
        self._encode(frame, float(stream.average_rate or 0))

    def add_picture(self, picture: NDArray[np.uint8]) -> None:
        """The next frame, as upright RGB [height, width, 3]."""
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        if not self._encoder:
            self._choose_size(frame, Fraction(1))
        self._encode(frame, 0)

    def finish(self, fps: float) -> bytes:
        """The mp4 file of all frames added, at least one, shown ``fps`` a second."""
        assert self._encoder
        self._encoder.write(frame_rate(fps))
        return self._path.read_bytes()

    def _choose_size(self, frame: VideoFrame, aspect: Fraction) -> None:
        """From the first frame: the size before it is turned, and the matrix of its colours."""
        size = square_size(frame.width, frame.height, aspect)
        self._size = scaled_size(*size, self._config.short_side_px)
        if max(self._size) > _MAX_SIDE:
            width, height = self._size
            detail = f"would be {width}x{height} pixels; h264 takes up to {_MAX_SIDE} a side"
            raise Rejected("too_large", detail)
        if not frame.format.is_rgb:
            self._matrix = frame.colorspace

    def _encode(self, frame: VideoFrame, fps: float) -> None:
        upright = _turned(self._converted(frame), rotation_of(frame) // 90)
        if not self._encoder:
            config = self._config
            encoding = Encoding(
                config.crf, config.gop_frames, config.preset, config.disposable_frames
            )
            self._encoder = Encoder(self._path, encoding, upright, frame_rate(fps))
        self._encoder.add(upright)

    def _converted(self, frame: VideoFrame) -> VideoFrame:
        """Scaled to yuv420p of usual range, which looks the same; no detour over RGB."""
        width, height = self._size
        is_full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        try:
            converted = frame.reformat(
                width,
                height,
                "yuv420p",
                dst_colorspace=self._matrix,
                interpolation=Interpolation.BICUBIC,
                src_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
        except av.FFmpegError as error:
            detail = f"frames of the format {frame.format.name} cannot be converted"
            raise Rejected("corrupt", detail) from error
        converted.color_range = ColorRange.MPEG
        return converted


def transcode_pictures(
    pictures: Iterable[NDArray[np.uint8]], fps: float, config: TranscodeConfig
) -> bytes:
    """``pictures`` (RGB [height, width, 3], at least one) as an mp4 file of the first one's size.

    Args:
        pictures: taken one after another.
        fps: 25 where it is 0: unknown.
        config: of the encoding.
    """
    with Transcoder(config) as transcoder:
        for picture in pictures:
            transcoder.add_picture(picture)
        return transcoder.finish(fps)


def square_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Width and height with square pixels, where they were ``aspect`` times as wide as high."""
    is_sane = Fraction(1, _MAX_ASPECT) <= aspect <= _MAX_ASPECT
    return max(1, round(width * aspect)) if is_sane else width, height


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height with the short side at ``short_side``, never enlarged, even for 4:2:0."""
    scale = min(1.0, short_side / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _turned(frame: VideoFrame, turns: int) -> VideoFrame:
    """``frame`` (yuv420p) turned by quarters, anticlockwise."""
    if not turns:
        return frame
    planes = frame.to_ndarray()
    width, height = frame.width, frame.height
    luma, chroma = planes[:height], planes[height:].reshape(2, height // 2, width // 2)
    turned = [np.rot90(luma, turns), *(np.rot90(plane, turns) for plane in chroma)]
    stacked = np.concatenate([plane.reshape(-1) for plane in turned])
    rows = turned[0].shape[0] * 3 // 2
    upright = VideoFrame.from_ndarray(stacked.reshape(rows, -1), format="yuv420p")
    upright.colorspace, upright.color_range = frame.colorspace, frame.color_range
    return upright
