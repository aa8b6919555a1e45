"""What detection learns from: clips around seconds, their boxes, and the loss."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sigma_pipeline.data_prep.config import ClipConfig
from sigma_pipeline.data_prep.marked_seconds import MarkedSecond
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.jobs.benchmarks.box_clips import BoxPlan, box_targets, frames_around
from sigma_pipeline.jobs.benchmarks.box_training import BoxObjective, BoxTuning, learned_seconds
from sigma_pipeline.jobs.encoders import EncoderSource
from tests.jobs.benchmarks.movies import CLASSES, LEFT, MIDDLE, RIGHT, index_of, movie
from tests.jobs.evaluation.conftest import MODEL

SECONDS: Any = {902 + n: [(LEFT, 1 + n, 0), (RIGHT, 5, 1)] for n in range(5)}


def objective(**clip: Any) -> BoxObjective:
    tuning = BoxTuning(
        source=EncoderSource("step-00000000", 0, "weights", "0", MODEL.model_dump(mode="json")),
        seed=3,
        clip=ClipConfig(frame_stride=2, crop="resize", **clip),
        num_frames=4,
        num_classes=len(CLASSES),
        max_boxes=3,
        min_score=0.9,
        slices="mean",
    )
    return tuning.objective()


@pytest.fixture
def pool() -> Pool:
    """Two movies, the first with another second than the other's."""
    return Pool([index_of(movie(0, {903: [(MIDDLE, 2, 0)]})), index_of(movie(1, SECONDS))])


def visited(plan: BoxPlan, pool: Pool, epoch: int) -> tuple[int, list[list[float]]]:
    """The second that the clip is around, and its targets that are boxes."""
    source = pool.source(1)
    frames = plan.frames(1, source, epoch, 7)
    targets = plan.target(1, source, epoch, 7, frames)
    assert targets.shape == (3, 4 + len(CLASSES) + 1)
    assert frames.tolist() == [frames[2] + step for step in (-4, -2, 0, 2)]
    return 900 + int(frames[2]) // 10, targets[targets[:, -1] == 1].tolist()


def test_targets_are_the_boxes_of_the_second_that_the_clip_is_around(pool: Pool) -> None:
    plan = objective().plan(pool)

    for epoch in range(5):
        second, (left, right) = visited(plan, pool, epoch)
        assert (left[:4], right[:4]) == (list(LEFT), list(RIGHT))
        assert left[4:9] == [float(label == second - 902) for label in range(5)]
        assert right[4:9] == [0, 0, 0, 0, 1]


def test_each_second_of_a_movie_is_visited_before_any_is_again(pool: Pool) -> None:
    plan = objective().plan(pool)

    turns = [[visited(plan, pool, 5 * turn + n)[0] for n in range(5)] for turn in range(4)]

    assert all(sorted(turn) == list(SECONDS) for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1


def test_boxes_are_mirrored_with_their_frames() -> None:
    left = Pool([index_of(movie(0, {903: [(LEFT, 2, 0)]}))])
    plan, source = objective(flip_probability=0.5).plan(left), left.source(0)

    found = {
        (plan.crop(source, 0, position).is_flipped, *target[0, :4].tolist())
        for position in range(20)
        for target in [plan.target(0, source, 0, position, np.arange(4))]
    }

    assert found == {(False, *LEFT), (True, 0.5, 0, 1, 1)}


def test_frames_beyond_the_ends_of_a_movie_are_its_first_or_last() -> None:
    assert frames_around(3, 100, 6, 2).tolist() == [0, 0, 1, 3, 5, 7]
    assert frames_around(98, 100, 6, 2).tolist() == [92, 94, 96, 98, 99, 99]


def test_of_too_many_boxes_the_first_are_learned_from() -> None:
    marked = MarkedSecond(902, 20, {LEFT: (0,), RIGHT: (1,), MIDDLE: (2,)})

    targets = box_targets(marked, num_classes=5, max_boxes=2)

    assert targets[:, :4].tolist() == [list(LEFT), list(RIGHT)]


def test_predicted_boxes_are_learned_from_where_it_is_said_what_is_done_in_any() -> None:
    predicted: Any = {902: [(MIDDLE, None, 0.95), (RIGHT, 3, 0.8)], 903: [(MIDDLE, 2, 0.99)]}
    nothing: Any = {902: [(MIDDLE, None, 0.95)]}
    true: Any = {902: [(LEFT, 1, 0)]}
    index = index_of(
        movie(0, true, predicted_boxes=predicted), movie(1, true, predicted_boxes=nothing)
    )

    assert [[second.boxes for second in movie] for movie in learned_seconds(index, 0.9)] == [
        [{LEFT: (0,), MIDDLE: ()}],
        [{LEFT: (0,)}],
    ]
    assert [len(movie[0].boxes) for movie in learned_seconds(index, None)] == [1, 1]


def test_the_loss_of_a_clip_is_the_mean_over_its_boxes_and_padding_costs_nothing() -> None:
    one = box_targets(MarkedSecond(902, 20, {LEFT: (1,)}), num_classes=5, max_boxes=3)
    two = box_targets(
        MarkedSecond(902, 20, {LEFT: (0,), RIGHT: (1, 4)}), num_classes=5, max_boxes=3
    )
    targets = torch.from_numpy(np.stack([one, two]))
    outputs = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))

    found = objective().loss(outputs, targets)

    of_one = F.binary_cross_entropy_with_logits(outputs[0, :1], targets[0, :1, 4:9])
    of_two = F.binary_cross_entropy_with_logits(outputs[1, :2], targets[1, :2, 4:9])
    torch.testing.assert_close(found, (of_one + of_two) / 2)
