"""Which frames of a video make a clip: arithmetic on frame numbers only (protocols 1.1 and 2)."""

import numpy as np
from numpy.typing import NDArray


def clip_frames(
    num_video_frames: int,
    num_frames: int,
    stride: int,
    start_draw: float,
    *,
    start_grid: int = 1,
) -> NDArray[np.int64]:
    """Frame numbers of a training clip: ``num_frames``, ``stride`` apart, from a random start.

    A video too short for that is taken from its first frame on, and the last frame that the
    stride reaches is repeated.

    Args:
        num_video_frames: frames in the video, at least 1.
        num_frames: frames in the clip, at least 1.
        stride: distance of the clip's frames in the video, at least 1.
        start_draw: in [0, 1); when it is uniform, every possible start is equally likely.
        start_grid: possible starts are the multiples of this.
    """
    last_start = _last_start(num_video_frames, num_frames, stride)
    start = int(start_draw * (last_start // start_grid + 1)) * start_grid
    return _frames_from(start, num_video_frames, num_frames, stride)


def segment_frames(
    num_video_frames: int, num_frames: int, draws: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Frame numbers of a training clip over the whole video (TSN, protocols 2).

    The video is cut into as many parts as the clip has frames, equal to within a frame, and one
    frame is taken out of each. In a video of fewer frames than that, some are repeated.

    Args:
        num_video_frames: frames in the video, at least 1.
        num_frames: frames in the clip, at least 1.
        draws: in [0, 1), one for each frame of the clip: where in its part it lies.
    """
    bounds = np.arange(num_frames + 1, dtype=np.int64) * num_video_frames // num_frames
    lengths = np.maximum(1, np.diff(bounds))
    return bounds[:-1] + (draws * lengths).astype(np.int64)


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
