"""Average precision against scikit-learn and by hand; the interval of its mean."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from sigma_pipeline.jobs.benchmarks.average_precision import (
    Floats,
    Labels,
    average_precisions,
    drawn_mean_precisions,
    mean_average_precision,
    mean_precision_interval,
)


def drawn(samples: int, seed: int, *, decimals: int = 6) -> tuple[Labels, Floats]:
    """Twelve classes, of which the last has no positive; scores that know a little."""
    draws = np.random.default_rng(seed)
    labels = draws.random((samples, 12)) < np.linspace(0.4, 0.1, 12)
    labels[:, -1] = False
    return labels, (draws.random((samples, 12)) + 0.3 * labels).round(decimals)


def test_a_case_that_was_worked_out_by_hand() -> None:
    labels = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=np.bool_)
    scores = np.array([[0.9, 0.5, 0.1], [0.8, 0.5, 0.2], [0.7, 0.5, 0.3], [0.1, 0.9, 0.4]])

    precisions = average_precisions(labels, scores)

    # Ranks 1 and 3: (1/1 + 2/3) / 2. Three alike at rank 2 to 4, two of them right: 2/4.
    assert precisions[:2].tolist() == pytest.approx([5 / 6, 1 / 2])
    assert np.isnan(precisions[2])
    assert mean_average_precision(precisions) == pytest.approx(2 / 3)


@pytest.mark.parametrize("decimals", [6, 1])
def test_it_is_that_of_scikit_learn_with_and_without_equal_scores(decimals: int) -> None:
    labels, scores = drawn(60, 0, decimals=decimals)

    precisions = average_precisions(labels, scores)

    expected = [
        average_precision_score(labels[:, number], scores[:, number]) for number in range(11)
    ]
    assert precisions[:11].tolist() == pytest.approx(expected, abs=1e-12)


def test_a_sample_that_is_drawn_twice_counts_as_two() -> None:
    labels, scores = drawn(30, 1, decimals=1)
    counts = np.random.default_rng(2).multinomial(30, [1 / 30] * 30, 5)

    means = drawn_mean_precisions(labels, scores, counts.astype(np.float64))

    for mean, count in zip(means.tolist(), counts, strict=True):
        repeated = np.repeat(labels, count, axis=0), np.repeat(scores, count, axis=0)
        assert mean == pytest.approx(mean_average_precision(average_precisions(*repeated)))


def test_a_draw_without_any_positive_has_no_mean() -> None:
    labels, scores = np.array([[True], [False]]), np.array([[0.5], [0.4]])

    means = drawn_mean_precisions(labels, scores, np.array([[0.0, 2.0], [1.0, 1.0]]))

    assert np.isnan(means[0])
    assert means[1] == 1.0


def test_the_interval_is_around_the_score_and_narrows_with_samples() -> None:
    widths = []
    for samples in (100, 900):
        labels, scores = drawn(samples, 3)
        value = mean_average_precision(average_precisions(labels, scores))
        low, high = mean_precision_interval(labels, scores, seed=0)
        assert low < value < high
        assert (low, high) == mean_precision_interval(labels, scores, seed=0)
        widths.append(high - low)

    assert 2 < widths[0] / widths[1] < 4.5  # the root of 9 is 3


def test_the_interval_holds_the_score_of_most_other_draws_of_samples() -> None:
    values, intervals = [], []
    for seed in range(40):
        sample = drawn(120, 100 + seed)
        values.append(mean_average_precision(average_precisions(*sample)))
        intervals.append(mean_precision_interval(*sample, seed=0))
    truth = np.mean(values)

    assert sum(low <= truth <= high for low, high in intervals) >= 34


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="a finite score"):
        average_precisions(np.ones((2, 1), np.bool_), np.array([[0.5], [np.nan]]))
    with pytest.raises(ValueError, match="no sample of the test split has any class"):
        mean_average_precision(np.array([np.nan]))
