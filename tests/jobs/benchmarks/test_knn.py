"""k-NN: against scikit-learn, then the traps of the published script it must not have."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from sigma_pipeline.jobs.benchmarks import knn
from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet
from sigma_pipeline.jobs.benchmarks.figures import Confusion, Neighbours
from sigma_pipeline.jobs.benchmarks.knn import Knn, similarities, votes_of
from sigma_pipeline.jobs.figure_confusion import ConfusionMatrix

Make = Callable[..., FeatureSet]


@pytest.mark.parametrize("k", [1, 11, 20])
def test_predictions_and_accuracies_agree_with_scikit_learn(blobs: Make, k: int) -> None:
    bank, queries = blobs(140, 0, classes=7, spread=2.5), blobs(90, 1, classes=7, spread=2.5)

    result = Knn(k=k, temperature=0.07).scores(bank, queries, seed=0)

    reference = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
    ).fit(bank.pooled[:, 0], bank.labels)
    shares = reference.predict_proba(queries.pooled[:, 0])
    top1, top5 = (score.value for score in result.scores)
    assert result.outcomes["prediction"] == reference.predict(queries.pooled[:, 0]).tolist()
    assert top1 == pytest.approx(accuracy_score(queries.labels, shares.argmax(axis=1)), abs=1e-4)
    own = np.take_along_axis(shares, queries.labels[:, None], axis=1)
    # scikit-learn's top 5 would be filled up with classes that no neighbour is of.
    expected = ((shares > own).sum(axis=1) < 5) & (own[:, 0] > 0)
    assert top5 == pytest.approx(expected.mean(), abs=1e-4)
    assert 0.2 < top1 < 0.9


def test_its_confusion_is_that_of_scikit_learn(blobs: Make) -> None:
    queries = blobs(90, 1, classes=7, spread=2.5)
    result = Knn(k=11).scores(blobs(140, 0, classes=7, spread=2.5), queries, seed=0)

    confusion = next(figure for figure in result.figures if isinstance(figure, Confusion))

    counts = ConfusionMatrix.of(confusion, [f"c{label}" for label in range(7)]).counts
    expected = confusion_matrix(queries.labels, result.outcomes["prediction"])
    assert counts.tolist() == expected.tolist()
    assert 0 < np.trace(expected) < 90


def test_views_of_a_video_are_one_query_in_their_mean_direction(make_features: Make) -> None:
    bank = make_features([[1, 0], [0, 1]], [0, 1])
    # One long view must not outvote two short ones.
    views = np.array([[[9, 0], [0, 1], [0, 1]], [[9, 0], [9, 0], [0, 1]]], dtype=np.float32)
    queries = replace(make_features([[1, 0]] * 2, [1, 0], prefix="query"), pooled=views)

    assert Knn(k=1).scores(bank, queries, seed=0).outcomes["prediction"] == [1, 0]


def test_the_five_nearest_bank_clips_of_a_few_queries_are_shown(blobs: Make) -> None:
    bank, queries = blobs(60, 0, spread=2.5), blobs(40, 1, spread=2.5)

    result = Knn(k=3).scores(bank, queries, seed=0)

    shown = next(figure for figure in result.figures if isinstance(figure, Neighbours))
    nearest = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute")
    distances, places = nearest.fit(bank.pooled[:, 0]).kneighbors(queries.pooled[::5, 0])
    assert shown.queries == list(queries.keys[::5])
    assert shown.neighbours == [[bank.keys[i] for i in row] for row in places.tolist()]
    assert np.allclose(shown.similarity, 1 - distances, atol=1e-5)


def test_a_query_is_not_its_own_neighbour_in_a_bank_of_hardly_more(make_features: Make) -> None:
    same = make_features([[1, 0], [1, 0.1], [0, 1]], [0, 1, 0])

    shown = Knn(k=1).scores(same, same, seed=0).figures[1]

    assert isinstance(shown, Neighbours)
    assert shown.neighbours[0] == ["clip1", "clip2"]


def test_a_near_neighbour_outvotes_two_far_ones() -> None:
    similarity = torch.tensor([[1.0, 0.6, 0.6]])
    labels = np.array([0, 1, 1])

    assert votes_of(similarity, labels, 2, k=3, temperature=0.07).argmax() == 0
    assert votes_of(similarity, labels, 2, k=3, temperature=100.0).argmax() == 1


def test_the_larger_the_bank_the_fewer_queries_ask_it_at_once(
    blobs: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large, queries = blobs(30, 0), blobs(250, 0), blobs(21, 1)
    whole = Knn(k=5).scores(large, queries, seed=0)
    monkeypatch.setattr(knn, "_SIMILARITIES_AT_ONCE", 200)

    assert [len(part) for part in similarities(small, queries)] == [6, 6, 6, 3]
    assert [len(part) for part in similarities(large, queries)] == [1] * 21
    in_parts = Knn(k=5).scores(large, queries, seed=0)
    assert in_parts.outcomes == whole.outcomes


def test_a_query_never_finds_itself_in_the_bank(make_features: Make) -> None:
    same = make_features([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], [0, 1, 0, 1])

    result = Knn(k=1).scores(same, same, seed=0)

    assert result.scores[0].value == 0.0
    assert "4 queries are in the bank too" in result.notes[0]


def test_k_is_capped_at_the_clips_per_class_with_a_word(blobs: Make) -> None:
    result = Knn(k=200).scores(blobs(30, 0), blobs(9, 1), seed=0)

    assert result.notes == ("k=200 was capped at 10, the bank's mean number of clips per class",)
    assert Knn(k=10).scores(blobs(30, 0), blobs(9, 1), seed=0).notes == ()


def test_k_above_the_smallest_class_alone_is_said(make_features: Make) -> None:
    bank = make_features([[1, 0]] * 9 + [[0, 1]] * 3, [0] * 9 + [1] * 3)
    queries = make_features([[1, 0]], [0], prefix="query", num_classes=2)

    def notes(k: int) -> tuple[str, ...]:
        return Knn(k=k).scores(bank, queries, seed=0).notes

    assert notes(3) == ()
    assert notes(5) == ("k=5 is above the 3 clips of the bank's smallest class",)
    assert notes(7) == (
        "k=7 was capped at 6, the bank's mean number of clips per class",
        "k=6 is above the 3 clips of the bank's smallest class",
    )


def test_top5_counts_a_class_that_got_votes_but_not_one_without(make_features: Make) -> None:
    bank = make_features(np.eye(8).tolist(), list(range(8)))
    queries = make_features([[1, 0.5, 0, 0, 0, 0, 0, 0]] * 2, [1, 2], prefix="query", num_classes=8)

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
