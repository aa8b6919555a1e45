"""One video re-encoded: short side resized, upright, short distance between keyframes."""

import tempfile
from pathlib import Path

import numpy as np

from sigma_pipeline.data_prep.config import TranscodeConfig
from sigma_pipeline.data_prep.decode import decode_scaled
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.probe import Probe

_FPS_WHERE_UNKNOWN = 25.0
_FPS_RANGE = (1.0, 1000.0)
"""Gaps of hours between frames would make a rate that no encoder takes."""


def transcode(data: bytes, probe: Probe, config: TranscodeConfig) -> bytes:
    """The video ``data``, of which ``probe`` is known, as an mp4 file of the same frames.

    Deterministic on one machine. Frames pass through a file in the folder for temporary files
    (``TMPDIR``), so that memory does not grow with the length of the video.

    Raises:
        Rejected: decoding fails, which it did not when it was probed.
    """
    width, height = scaled_size(probe.width, probe.height, config.short_side_px)
    with tempfile.TemporaryDirectory() as folder:
        frames = np.memmap(
            Path(folder, "frames"), np.uint8, "w+", shape=(probe.frames, height, width, 3)
        )
        for number, picture in enumerate(decode_scaled(data, width, height)):
            frames[number] = picture
        path = Path(folder, "video.mp4")
        fps = float(np.clip(probe.fps or _FPS_WHERE_UNKNOWN, *_FPS_RANGE))
        write_video(path, frames, fps, config.crf, config.gop_frames)
        return path.read_bytes()


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height with the short side at ``short_side``, never enlarged, even for 4:2:0."""
    scale = min(1.0, short_side / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
