"""Frames to an h264 file, the same bytes each time on the same machine and library."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def write_video(
    path: Path, frames: NDArray[np.uint8], fps: float, crf: int, gop_frames: int
) -> None:
    """Write ``frames`` as h264 (yuv420p) in an mp4 file that appears only when complete.

    One thread and the bit-exact flags make the bytes a function of the arguments: x264's result
    depends on its number of threads, and mp4 would otherwise carry dates and versions.

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
    unfinished = path.with_name(f".{path.name}.unfinished")
    rate = Fraction(fps).limit_denominator(1000)
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(unfinished, "w", format="mp4", container_options=options) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.gop_size = gop_frames
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    unfinished.replace(path)


def _check_frames(frames: NDArray[np.uint8]) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(
            f"frames must be uint8 [frames, height, width, 3], not {frames.dtype} {frames.shape}"
        )
    if not len(frames) or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(
            f"at least one frame of even height and width is needed, not {frames.shape[:3]}"
        )
