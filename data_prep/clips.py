"""Which frames of a video make a clip: arithmetic on frame numbers only (protocols 1.1)."""

import numpy as np
from numpy.typing import NDArray


def clip_frames(
    num_video_frames: int, num_frames: int, stride: int, start_draw: float
) -> NDArray[np.int64]:
    """Frame numbers of a training clip: ``num_frames``, ``stride`` apart, from a random start.

    A video too short for that is taken from its first frame on, and the last frame that the
    stride reaches is repeated.

    Args:
        num_video_frames: frames in the video, at least 1.
        num_frames: frames in the clip, at least 1.
        stride: distance of the clip's frames in the video, at least 1.
        start_draw: in [0, 1); when it is uniform, every possible start is equally likely.
    """
    start = int(start_draw * (_last_start(num_video_frames, num_frames, stride) + 1))
    return _frames_from(start, num_video_frames, num_frames, stride)


def middle_clip_frames(num_video_frames: int, num_frames: int, stride: int) -> NDArray[np.int64]:
    """Frame numbers of the clip in the middle of a video; otherwise as ``clip_frames``."""
    start = _last_start(num_video_frames, num_frames, stride) // 2
    return _frames_from(start, num_video_frames, num_frames, stride)


def _last_start(num_video_frames: int, num_frames: int, stride: int) -> int:
    span = (num_frames - 1) * stride + 1
    return max(0, num_video_frames - span)


def _frames_from(
    start: int, num_video_frames: int, num_frames: int, stride: int
) -> NDArray[np.int64]:
    last_reachable = (num_video_frames - 1 - start) // stride
    steps = np.minimum(np.arange(num_frames, dtype=np.int64), last_reachable)
    return start + steps * stride
