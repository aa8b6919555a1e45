"""Frames to an h264 file, the same bytes each time on the same machine and library."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

_FPS_WHERE_UNKNOWN = Fraction(25)
_FPS_RANGE = (Fraction(1), Fraction(1000))
"""Gaps of hours between frames would make a rate that no encoder takes."""
_BIT_EXACT = av.codec.context.Flags.bitexact


@dataclass(frozen=True)
class Encoding:
    """What a file depends on besides its frames."""

    crf: int
    """x264's constant quality, 0 (lossless) to 51."""
    gop_frames: int
    """Longest distance between keyframes; the exact one where ``disposable_frames`` is set."""
    preset: str = "veryfast"
    disposable_frames: int | None = None
    """Exactly so many frames that nothing refers to between two others; x264 decides if None."""

    @property
    def options(self) -> dict[str, object]:
        """For libav's libx264; x264's result depends on its number of threads.

        Its macroblock tree is off: with AVX-512 it reads memory that nobody wrote (x264 165, in the
        wheels of PyAV 18), and the same frames give other bytes each time. In groups of 16 frames
        it gains nothing anyway (11 real videos at equal crf: 3 % less bytes, 0.29 dB less).
        """
        params = "mbtree=0"
        if self.disposable_frames is not None:
            params += (
                f":keyint={self.gop_frames}:min-keyint={self.gop_frames}:scenecut=0:open-gop=0"
                f":bframes={self.disposable_frames}:b-adapt=0:b-pyramid=none"
            )
        quality = {"crf": str(self.crf), "preset": self.preset}
        return {**quality, "threads": "1", "x264-params": params}


class Encoder:
    """Takes yuv420p frames one by one and keeps what they are encoded to, until it is written.

    So the frame rate need not be known before the last frame is; the one that x264 reckons with
    just weighs bits against time.
    """

    def __init__(self, path: Path, encoding: Encoding, first: VideoFrame, fps: Fraction) -> None:
        """Begins a file.

        Args:
            path: ends in ``.mp4``; its folder exists. The file is there when it is complete.
            encoding: see there.
            first: has the size and the colours of all frames, an even height and width.
            fps: by the source's header.
        """
        self._path = path
        self._unfinished = path.with_name(f".{path.name}.unfinished")
        # Mp4 would carry dates and versions.
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        self._container = av.open(self._unfinished, "w", format="mp4", container_options=options)
        self._stream = self._container.add_stream("libx264", rate=fps)
        _set_up(self._stream, encoding, first)
        self._tick = 1 / fps
        self._packets: list[Packet[VideoStream]] = []
        self.num_frames = 0

    def add(self, frame: VideoFrame) -> None:
        """Encodes the next frame; its timestamp and type are overwritten."""
        frame.pts, frame.time_base = self.num_frames, self._tick
        frame.pict_type = PictureType.NONE  # else the source's own structure would be kept
        self.num_frames += 1
        self._packets += self._stream.encode(frame)

    def write(self, fps: Fraction) -> None:
        """Ends the file, of so many frames per second."""
        self._packets += self._stream.encode(None)
        context = self._stream.codec_context
        context.time_base = 1 / fps
        for packet in self._packets:
            packet.time_base, packet.duration = 1 / fps, 1
            self._container.mux(packet)
        self._container.close()
        self._unfinished.replace(self._path)


def _set_up(stream: VideoStream, encoding: Encoding, first: VideoFrame) -> None:
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = first.width, first.height, "yuv420p"
    context.color_range, context.colorspace = first.color_range, first.colorspace
    context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
    context.thread_count = 1
    context.gop_size = encoding.gop_frames
    context.flags |= _BIT_EXACT
    stream.options = encoding.options


def frame_rate(fps: float) -> Fraction:
    """``fps`` as a rate that an encoder takes, to a thousandth; 25 where it is 0: unknown."""
    low, high = _FPS_RANGE
    rate = Fraction(fps).limit_denominator(1000) if fps else _FPS_WHERE_UNKNOWN
    return min(max(rate, low), high)


def write_video(
    path: Path, frames: NDArray[np.uint8], fps: float, crf: int, gop_frames: int
) -> None:
    """Write ``frames`` as h264 (yuv420p) in an mp4 file that appears only when complete.

    Args:
        path: ends in ``.mp4``; its folder exists.
        frames: RGB, [frames, height, width, 3]; 4:2:0 wants even height and width.
        fps: frames per second, kept to a thousandth.
        crf: x264's constant quality, 0 (lossless) to 51.
        gop_frames: longest distance between keyframes.

    Raises:
        ValueError: for arrays that cannot be such a video.
    """
    _check_frames(frames)
    images = (
        VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", threads=1)
        for image in frames
    )
    first = next(images)
    encoder = Encoder(path, Encoding(crf, gop_frames), first, frame_rate(fps))
    encoder.add(first)
    for image in images:
        encoder.add(image)
    encoder.write(frame_rate(fps))


def _check_frames(frames: NDArray[np.uint8]) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(
            f"frames must be uint8 [frames, height, width, 3], not {frames.dtype} {frames.shape}"
        )
    if not len(frames) or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(
            f"at least one frame of even height and width is needed, not {frames.shape[:3]}"
        )
