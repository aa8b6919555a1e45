"""The mean per class: every class counts the same, however many samples it has."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from sigma_pipeline.jobs.benchmarks.class_means import ClassShares, class_mean
from sigma_pipeline.jobs.benchmarks.figures import ClassBars

LABELS, HITS = [0] * 8 + [2] * 2, [True] * 8 + [False, True]


def test_a_small_class_counts_as_much_as_a_large_one() -> None:
    score = class_mean(HITS, LABELS, seed=0)

    assert score.value == pytest.approx((1.0 + 0.5) / 2)
    assert score.samples == 10


def test_it_is_the_balanced_accuracy_of_scikit_learn() -> None:
    draws = np.random.default_rng(0)
    labels, predictions = draws.integers(0, 7, size=(2, 300))

    score = class_mean((labels == predictions).tolist(), labels.tolist(), seed=0)

    assert score.value == pytest.approx(balanced_accuracy_score(labels, predictions))
    assert score.low < score.value < score.high


def test_it_is_not_the_published_running_mean_over_the_classes_so_far() -> None:
    running = np.mean([8 / 8, 9 / 10])

    assert class_mean(HITS, LABELS, seed=0).value != pytest.approx(running)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draws = np.random.default_rng(1)
    labels = np.repeat(np.arange(4), (60, 30, 20, 10))
    truth = np.array([0.9, 0.7, 0.5, 0.3])

    scores = [
        class_mean((draws.random(120) < truth[labels]).tolist(), labels.tolist(), seed)
        for seed in range(60)
    ]

    covered = np.mean([score.low <= truth.mean() <= score.high for score in scores])
    assert covered > 0.85


def test_classes_without_samples_have_no_bar() -> None:
    bars = ClassShares.of(HITS, LABELS).bars("top-1 by class")

    assert bars == ClassBars([0, 2], [1.0, 0.5], [8, 2], "top-1 by class")
