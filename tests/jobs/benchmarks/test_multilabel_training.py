"""What fine-tuning on several classes learns from: targets of clips, and the loss."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sigma_pipeline.data_prep.config import ClipConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.data_prep.rows import SampleRow
from sigma_pipeline.jobs.benchmarks.labelled_videos import LabelledVideos
from sigma_pipeline.jobs.benchmarks.multilabel_training import MultilabelTuning, SpanPlan
from sigma_pipeline.jobs.encoders import EncoderSource
from tests.jobs.evaluation.conftest import MODEL
from tests.jobs.evaluation.squares import sample_row

CLASSES = ["a", "b", "c", "d"]


def row(number: int, annotation: Any = None, labels: Sequence[int] = ()) -> SampleRow:
    plain = sample_row("train", number, {"mp4": b""}, 0)
    text = None if annotation is None else json.dumps(annotation)
    return replace(
        plain, frames=40, label=None, class_name=None, labels=tuple(labels), annotation=text
    )


def index_of(rows: Sequence[SampleRow]) -> Index:
    return Index(DatasetRef("actions", "train", "v1"), CLASSES, "0", rows)


@pytest.fixture
def tuning() -> MultilabelTuning:
    source = EncoderSource("step-00000000", 0, "weights", "0", MODEL.model_dump(mode="json"))
    clip = ClipConfig(frame_stride=2, crop="resize")
    return MultilabelTuning(
        source=source, seed=3, clip=clip, num_frames=4, num_classes=4, drop_path=0.2, dropout=0.5
    )


@pytest.fixture
def pool() -> Pool:
    """Two datasets; in the second, class 2 in frames 10 to 19 and class 0 in 15 to 24."""
    runs = {"fps": 10.0, "frame_labels": [[10, 15, [2]], [15, 20, [0, 2]], [20, 25, [0]]]}
    return Pool([index_of([row(0, labels=(1, 3))]), index_of([row(1), row(2, runs, (0, 2))])])


def test_the_target_is_what_happens_from_the_first_to_the_last_frame_of_the_clip(
    tuning: MultilabelTuning, pool: Pool
) -> None:
    plan = tuning.objective().plan(pool)
    seen: set[tuple[float, ...]] = set()

    for epoch in range(40):
        frames = plan.frames(2, pool.source(2), epoch, 0)
        target = plan.target(2, pool.source(2), epoch, 0, frames)
        expected = np.zeros(4)
        for frame in range(frames[0], frames[-1] + 1):  # of each frame, skipped or not
            expected[
                [label for label, of in ((2, (10, 20)), (0, (15, 25))) if of[0] <= frame < of[1]]
            ] = 1
        assert target.tolist() == expected.tolist()
        seen.add(tuple(target.tolist()))

    assert len(seen) == 4  # nothing, each of the two, and both


def test_a_sample_that_says_nothing_by_frame_has_its_classes_in_every_clip(
    tuning: MultilabelTuning, pool: Pool
) -> None:
    plan = tuning.objective().plan(pool)

    assert plan.target(0, pool.source(0), 0, 0, np.array([3, 9])).tolist() == [0, 1, 0, 1]
    assert isinstance(plan, SpanPlan)
    assert (plan.num_frames, plan.seed, plan.clip) == (4, 3, tuning.clip)


def test_the_loss_is_the_mean_binary_cross_entropy_of_all_classes(tuning: MultilabelTuning) -> None:
    # sigmoid(log 3) = 3/4.
    logits = torch.tensor([[math.log(3.0), 0.0, 0.0, -math.log(3.0)]], dtype=torch.bfloat16)
    targets = torch.tensor([[1.0, 0.0, 1.0, 0.0]])

    loss = tuning.objective().loss(logits, targets)

    assert loss.dtype is torch.float32
    assert loss.item() == pytest.approx(-(2 * math.log(3 / 4) + 2 * math.log(1 / 2)) / 4, abs=2e-3)


def test_samples_count_that_say_what_happens_even_if_nothing_does() -> None:
    index = index_of([row(0), row(1, {"actions": []}), row(2, labels=(1,)), row(3, {"note": 1})])

    known = LabelledVideos.of(index, "test")

    assert known.keys == ["train-1", "train-2"]
    assert known.multi_hot.tolist() == [[False] * 4, [False, True, False, False]]
    assert known.positions == (1, 2)
    assert known.notes == ["2 of 4 test samples have no labels: left out"]
    with pytest.raises(ValueError, match="the test split has no sample whose classes are known"):
        LabelledVideos.of(index.part([0, 3]), "test")


def test_positions_are_those_in_the_whole_split() -> None:
    index = index_of([row(0), row(1, {"actions": []}), row(2, labels=(1,))])

    assert LabelledVideos.of(index.part([0, 2]), "training", (7, 9)).positions == (9,)
    assert LabelledVideos.of(index.part([1, 2]), "training", (7, 9)).positions == (7, 9)
    whole = LabelledVideos.of(index.part([1, 2]), "training")
    assert (whole.positions, whole.notes) == (None, [])
