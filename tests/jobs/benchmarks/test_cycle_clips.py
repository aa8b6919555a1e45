"""Training clips of the counter: which frames, and what is to be said of them."""

import pickle

import numpy as np
import pytest

from sigma_pipeline.data_prep.config import ClipConfig
from sigma_pipeline.data_prep.hot_columns import ClipSource
from sigma_pipeline.jobs.benchmarks.cycle_anchors import ANCHORS
from sigma_pipeline.jobs.benchmarks.cycle_clips import CyclePlan, Guesses
from sigma_pipeline.jobs.benchmarks.cycles import Context, Cycles

SOURCE = ClipSource("tar", "video", 0, 1, ".mp4", 100, 0, 10.0, 64, 48, 0, (0,), (0,), 1, label=0)
EVEN = Cycles(range(10, 95, 12))
"""Seven cycles of 12 frames."""


def plan(**guesses: float) -> CyclePlan:
    return CyclePlan(
        ClipConfig(flip_probability=0.5),
        8,
        16,
        0,
        (None, EVEN, Cycles([0, 10, 30, 40])),
        Context(),
        Guesses(**guesses),
    )


def targets_of(some: CyclePlan, sample: int = 1) -> np.ndarray:
    """[clips, sides, labels and offsets, anchors]"""
    nothing = np.zeros(0, dtype=np.int64)
    return np.stack([some.target(sample, SOURCE, 0, at, nothing) for at in range(200)])


def test_frames_are_of_the_marked_part_and_of_the_video() -> None:
    frames = np.stack([plan().frames(1, SOURCE, 0, position) for position in range(200)])

    assert frames.shape == (200, 8)
    assert (frames.min(), frames.max()) == (10, 94)
    short = SOURCE._replace(frames=90)  # as it may be, where a video ends before its last boundary
    assert max(plan().frames(1, short, 0, position).max() for position in range(200)) == 89


def test_a_clip_belongs_to_its_place_in_the_order() -> None:
    again = pickle.loads(pickle.dumps(plan()))  # as it goes to the decoding processes

    one = plan().frames(1, SOURCE, 2, 5)

    assert np.array_equal(one, again.frames(1, SOURCE, 2, 5))
    assert any(not np.array_equal(one, again.frames(1, SOURCE, 2, at)) for at in (6, 7))


def test_frames_and_target_are_of_one_guess() -> None:
    some = plan(near_fraction=1.0, near_ratio=1.9)
    for position in range(50):
        frames = some.frames(1, SOURCE, 0, position).reshape(2, 4)
        target = some.target(1, SOURCE, 0, position, frames)
        for side, (labels, offsets) in enumerate(target):
            right = np.flatnonzero(labels == 1)
            if not len(right) or frames[side].min() == 10 or frames[side].max() == 94:
                continue  # nothing known, or cut off by an end of the video
            guess = 12 / np.exp(offsets[right[0]]) / ANCHORS[right[0]]
            assert np.ptp(frames[side]) == pytest.approx(3 * guess, abs=1.01)


def test_guesses_near_the_truth_have_a_right_anchor_and_others_need_not() -> None:
    near, far = (targets_of(plan(near_fraction=fraction)) for fraction in (1.0, 0.0))

    has_right = [(targets[:, :, 0] == 1).any(axis=(1, 2)) for targets in (near, far)]
    assert has_right[0].all()
    assert 0 < has_right[1].mean() < 1
    assert (near[:, :, 0] == 1).mean() > (far[:, :, 0] == 1).mean() + 0.1


def test_positions_are_where_a_neighbour_is_of_like_length() -> None:
    # Of 10, 20 and 10 frames no two neighbours are alike: that sample is never asked for.
    labels = targets_of(plan())[:, :, 0]

    assert (labels >= 0).any(axis=(1, 2)).all()
    assert {side for side in (0, 1) if (labels[:, side] == -1).all(axis=1).any()} == {0, 1}


def test_the_square_in_the_middle_is_shown_and_half_of_them_mirrored() -> None:
    crops = [plan().crop(SOURCE, 0, position) for position in range(200)]

    assert {(crop.top, crop.left, crop.height, crop.width) for crop in crops} == {(0, 8, 48, 48)}
    assert 70 < sum(crop.is_flipped for crop in crops) < 130
