"""Which frames and which squares of a video its evaluation views are (protocols 2).

A view is the same in every run: what ``random`` draws is keyed by the view's seed and the sample's
place in its split.
"""

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.data_prep.augment import Crop, centre_square, even, whole_frame
from sigma_pipeline.data_prep.clips import middle_clip_frames
from sigma_pipeline.data_prep.config import MultiViewConfig, ViewConfig
from sigma_pipeline.data_prep.draws import generator


def view_frames(
    num_video_frames: int, num_frames: int, view: ViewConfig, sample: int
) -> list[NDArray[np.int64]]:
    """Frame numbers of each clip of a video, ``num_frames`` each; one clip, or one per segment.

    ``dense`` as of K400: clips of every ``frame_stride``-th frame, their starts spread evenly from
    the first frame to the last possible one; one clip alone stands in the middle. ``segments`` as
    of SSv2: one frame out of each of ``num_frames`` equal parts of the video, the clips shifted
    against each other; one clip alone takes the middle of each part. ``random`` as TimeT (protocols
    6.2): any frames of the video in their order, none twice unless there are too few.

    Args:
        num_video_frames: frames in the video, at least 1.
        num_frames: frames in each clip, at least 1.
        view: how clips are cut.
        sample: the video's place in its split.
    """
    segments = view.segments if isinstance(view, MultiViewConfig) else 1
    if view.sampling == "random":
        return [
            _drawn(num_video_frames, num_frames, generator(view.seed, clip, sample, "view"))
            for clip in range(segments)
        ]
    if view.sampling == "segments":
        return _spread_over_parts(num_video_frames, num_frames, segments)
    if segments == 1:
        return [middle_clip_frames(num_video_frames, num_frames, view.frame_stride)]
    strided = np.arange(0, num_video_frames, view.frame_stride, dtype=np.int64)
    step = max(0.0, (len(strided) - num_frames) / (segments - 1))
    return [
        strided[np.minimum(int(clip * step) + np.arange(num_frames), len(strided) - 1)]
        for clip in range(segments)
    ]


def view_crops(height: int, width: int, view: ViewConfig) -> list[Crop]:
    """The squares of a clip's frames: one, or several spread evenly over the long side."""
    crops = view.crops if isinstance(view, MultiViewConfig) else 1
    if view.crop == "resize":
        return [whole_frame(height, width)]
    if crops == 1:
        return [centre_square(height, width)]
    side = min(height, width)
    free = max(height, width) - side
    starts = [even(number * free // (crops - 1)) for number in range(crops)]
    return [
        Crop(start if height > width else 0, start if width >= height else 0, side, side)
        for start in starts
    ]


def _drawn(num_video_frames: int, num_frames: int, draws: np.random.Generator) -> NDArray[np.int64]:
    is_short = num_video_frames < num_frames
    return np.sort(draws.choice(num_video_frames, num_frames, replace=is_short))


def _spread_over_parts(
    num_video_frames: int, num_frames: int, segments: int
) -> list[NDArray[np.int64]]:
    part = num_video_frames / num_frames
    shifts = [0.5] if segments == 1 else [clip / segments for clip in range(segments)]
    starts = np.arange(num_frames) * part
    return [(starts + shift * part).astype(np.int64) for shift in shifts]
