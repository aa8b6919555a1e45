"""k-NN: against scikit-learn, then the traps of the published script it must not have."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet
from sigma_pipeline.jobs.benchmarks.knn import Knn

Make = Callable[..., FeatureSet]


def test_predictions_agree_with_scikit_learn(blobs: Make) -> None:
    bank, queries = blobs(60, 0, spread=2.5), blobs(40, 1, spread=2.5)

    result = Knn(k=11, temperature=0.07).scores(bank, queries, seed=0)

    reference = KNeighborsClassifier(
        11, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
    ).fit(bank.pooled, bank.labels)
    assert result.outcomes["prediction"] == reference.predict(queries.pooled).tolist()
    assert result.scores[0].value == reference.score(queries.pooled, queries.labels)
    assert 0.3 < result.scores[0].value < 1


def test_a_near_neighbour_outvotes_two_far_ones(make_features: Make) -> None:
    bank = make_features([[1, 0], [0.6, 0.8], [0.6, 0.8]], [0, 1, 1])
    queries = make_features([[1, 0.01]], [0], prefix="query", num_classes=2)

    assert Knn(k=3, temperature=0.07)._votes(bank, queries, slice(0, 1), 3).argmax() == 0
    assert Knn(k=3, temperature=100.0)._votes(bank, queries, slice(0, 1), 3).argmax() == 1


def test_a_query_never_finds_itself_in_the_bank(make_features: Make) -> None:
    same = make_features([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], [0, 1, 0, 1])

    result = Knn(k=1).scores(same, same, seed=0)

    assert result.scores[0].value == 0.0
    assert "4 queries are in the bank too" in result.notes[0]


def test_k_is_capped_at_the_clips_per_class_with_a_word(blobs: Make) -> None:
    result = Knn(k=200).scores(blobs(30, 0), blobs(9, 1), seed=0)

    assert result.notes == ("k=200 was capped at 10, the bank's mean number of clips per class",)
    assert Knn(k=10).scores(blobs(30, 0), blobs(9, 1), seed=0).notes == ()


def test_top5_counts_a_class_that_got_votes_but_not_one_without(make_features: Make) -> None:
    bank = make_features(np.eye(8).tolist(), list(range(8)))
    queries = make_features([[1, 0.5, 0, 0, 0, 0, 0, 0]] * 2, [1, 2], prefix="query", num_classes=8)

    votes = Knn(temperature=0.07)._votes(bank, queries, slice(0, 2), 2)

    assert np.isfinite(votes).sum(axis=1).tolist() == [2, 2]
    result = Knn(k=1).scores(bank, queries, seed=0)
    assert [score.name for score in result.scores] == ["top1", "top5"]
    assert result.outcomes["top5"] == [False, False]  # one neighbour: only class 0 got a vote


def test_unlabelled_samples_and_unseen_classes_are_reported(make_features: Make) -> None:
    bank = make_features([[1, 0], [0, 1], [1, 1]], [0, 1, -1])
    queries = make_features([[1, 0], [0, 1]], [0, 2], prefix="query")

    result = Knn(k=1).scores(bank, queries, seed=0)

    assert result.scores[0].value == 0.5
    assert result.notes == (
        "1 of 3 train samples have no label: left out",
        "1 test classes have no training sample: counted, and always wrong",
    )


def test_a_split_without_labels_is_refused(make_features: Make, blobs: Make) -> None:
    unlabelled = replace(blobs(6, 0), labels=np.full(6, -1))

    with pytest.raises(ValueError, match="train split has no labelled sample"):
        Knn().scores(unlabelled, blobs(6, 1), seed=0)


def test_a_very_low_temperature_does_not_overflow(blobs: Make) -> None:
    result = Knn(k=5, temperature=1e-5).scores(blobs(30, 0), blobs(9, 1), seed=0)

    assert result.scores[0].value == 1.0
