"""What each sample adds to a score."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, recall_score

from sigma_pipeline.jobs.benchmarks.average_precision import average_precisions
from sigma_pipeline.jobs.benchmarks.benchmark import Result
from sigma_pipeline.jobs.benchmarks.classification import LabelledSamples, classification_result
from sigma_pipeline.jobs.benchmarks.cycle_result import counting_result
from sigma_pipeline.jobs.compare_values import mean_precision_values, sample_values


def classified(generator: np.random.Generator) -> Result:
    labels = generator.integers(0, 8, 60)
    samples = LabelledSamples([f"s{n}" for n in range(60)], [None] * 60, labels, 8)
    return classification_result(generator.random((60, 8)), samples, [])


def counted(generator: np.random.Generator) -> Result:
    true, found = generator.integers(1, 9, size=(2, 30)).tolist()
    return counting_result([f"s{n}" for n in range(30)], true, found, [])


@pytest.mark.parametrize("make", [classified, counted])
def test_scores_of_benchmarks_are_means_of_what_they_keep(
    make: Callable[[np.random.Generator], Result],
) -> None:
    result = make(np.random.default_rng(0))

    for score in result.scores:
        values = sample_values(result.outcomes, score.name)
        assert values is not None
        assert values.mean() == pytest.approx(score.value)


def test_a_column_of_the_scores_name_is_taken_as_it_is() -> None:
    columns = {"key": ["a", "b"], "top1": [True, False], "miou": [0.25, 0.5]}

    assert sample_values(columns, "top1") == pytest.approx([1, 0])
    assert sample_values(columns, "miou") == pytest.approx([0.25, 0.5])
    assert sample_values(columns, "top5") is None


def test_the_mean_over_classes_becomes_a_mean_over_samples() -> None:
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 5, size=(2, 200)) ** 2 // 4
    columns = {"label": labels.tolist(), "prediction": predictions.tolist()}

    values = sample_values(columns, "mean_class")

    assert values is not None
    present = np.unique(labels)
    expected = recall_score(labels, predictions, labels=present, average="macro")
    assert values.mean() == pytest.approx(expected)


def test_mean_precision_is_the_mean_of_its_jackknife_values() -> None:
    generator = np.random.default_rng(0)
    marks = generator.random((50, 6)) < 0.2
    marks[:, 5] = np.arange(50) == 7  # a class of one sample
    scores = generator.random((50, 6)).round(1)  # many ties

    values = mean_precision_values(marks, scores)

    expected = np.mean([average_precision_score(marks[:, i], scores[:, i]) for i in range(6)])
    assert values.mean() == pytest.approx(expected)
    without = np.array(
        [
            np.nanmean(average_precisions(np.delete(marks, i, 0), np.delete(scores, i, 0)))
            for i in range(50)
        ]
    )
    assert values - values.mean() == pytest.approx(49 * (without.mean() - without))
    columns = {
        "labels": [np.flatnonzero(row).tolist() for row in marks],
        "scores": scores.tolist(),
    }
    assert sample_values(columns, "map") == pytest.approx(values)


def test_a_mean_precision_that_hangs_on_one_sample_says_nothing_of_others() -> None:
    columns = {"labels": [[0, 1], [], []], "scores": [[0.9, 0.2], [0.1, 0.3], [0.2, 0.1]]}

    assert sample_values(columns, "map") is None
    assert sample_values(columns | {"labels": [[0], [1], []]}, "map") is not None


def test_jackknife_values_vary_as_mean_precision_does() -> None:
    generator = np.random.default_rng(1)

    def drawn() -> tuple[float, float]:
        marks = generator.random((150, 4)) < 0.3
        scores = marks + generator.normal(0, 1, size=(150, 4))
        values = mean_precision_values(marks, scores)
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(150))

    means, errors = np.array([drawn() for _ in range(200)]).T
    assert errors.mean() == pytest.approx(means.std(ddof=1), rel=0.15)
