"""Merging the views of videos, and what is kept of multi-label scores."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from sigma_pipeline.jobs.benchmarks.figures import ClassBars
from sigma_pipeline.jobs.benchmarks.labelled_videos import LabelledVideos
from sigma_pipeline.jobs.benchmarks.multilabel_result import (
    Merging,
    merged_views,
    multilabel_result,
)

CLASSES = ['Holding a "towel"', "Sitting", "Running", "Never"]


@pytest.mark.parametrize(
    ("merging", "expected"),
    # sigmoid(0) = 1/2, of log 3: 3/4, of -log 3: 1/4, of -log 9: 1/10.
    [("max", [[3 / 4, 1 / 2], [1 / 4, 1 / 10]]), ("mean", [[1 / 2, 3 / 10], [1 / 4, 1 / 10]])],
)
def test_views_are_merged_after_the_sigmoid(merging: Merging, expected: list[list[float]]) -> None:
    three, ninth = np.log(3.0), -np.log(9.0)
    logits = np.array([[[three, 0.0], [-three, ninth]], [[-three, ninth], [-three, ninth]]])

    merged = merged_views(logits.astype(np.float32), merging)

    assert merged == pytest.approx(np.array(expected), abs=1e-7)


def test_classes_of_which_a_classifier_is_very_sure_keep_their_order() -> None:
    logits = np.array([[[20.0]], [[19.0]], [[18.0]]], dtype=np.float32)

    assert (np.diff(merged_views(logits, "max")[:, 0]) < 0).all()


def videos(*labels: tuple[int, ...]) -> LabelledVideos:
    return LabelledVideos([f"v{number}" for number in range(len(labels))], labels, CLASSES)


def test_the_score_is_the_mean_over_classes_that_are_there_and_outcomes_allow_to_redo_it() -> None:
    scored = np.random.default_rng(0).random((6, 4))
    known = videos((0,), (2, 1), (), (1,), (0, 1, 2), ())

    result = multilabel_result(scored, known, seed=0, notes=["one"])

    (score,) = result.scores
    marks = np.zeros((6, 4))
    for row, labels in zip(marks, result.outcomes["labels"], strict=True):
        row[labels] = 1
    again = average_precision_score(marks[:, :3], np.array(result.outcomes["scores"])[:, :3])
    assert (score.name, score.unit, score.samples) == ("map", "fraction", 6)
    assert score.value == pytest.approx(again)
    assert score.low <= score.value <= score.high
    assert result.outcomes["key"] == ["v0", "v1", "v2", "v3", "v4", "v5"]
    assert result.outcomes["labels"][1] == [1, 2]
    assert result.notes == ("one", "mean over the 3 of 4 classes that a test sample has")


def test_the_precision_of_each_class_is_kept_with_its_positives() -> None:
    scored = np.array([[0.9, 0.2, 0.1, 0.5], [0.8, 0.3, 0.1, 0.5]])

    result = multilabel_result(scored, videos((0, 1), (0,)), seed=0)

    assert result.files["average_precision.csv"].decode().splitlines() == [
        "number,class,positives,average_precision",
        '0,"Holding a ""towel""",2,1.000000',
        '1,"Sitting",1,0.500000',
        '2,"Running",0,',
        '3,"Never",0,',
    ]
    assert result.figures == (
        ClassBars(
            classes=[0, 1], values=[1.0, 0.5], samples=[2, 1], title="average precision by class"
        ),
    )


def test_a_remark_says_that_every_sample_has_just_one_class() -> None:
    scored = np.array([[0.9, 0.2, 0.1, 0.5], [0.8, 0.3, 0.1, 0.5]])

    single = multilabel_result(scored, videos((0,), (1,)), seed=0)
    several = multilabel_result(scored, videos((0,), (1, 2)), seed=0)

    remark = "each test sample has one class: each class is told from all others"
    assert remark in single.notes
    assert remark not in several.notes
