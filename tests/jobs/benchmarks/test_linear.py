"""Linear probe: how it compares with scikit-learn, and that the test split chooses nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score

from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet
from sigma_pipeline.jobs.benchmarks.classification import Classified, Fold
from sigma_pipeline.jobs.benchmarks.linear import LinearProbe, Pair

Make = Callable[..., FeatureSet]
QUICK = LinearProbe(min_steps=200)


def test_without_decay_it_comes_to_the_optimum_of_logistic_regression(blobs: Make) -> None:
    train, test = blobs(240, 0, spread=3.0), blobs(300, 1, spread=3.0)
    probe = LinearProbe(learning_rate=0.1, weight_decay=0.0)

    result = probe.scores(train, test, seed=0)

    reference = LogisticRegression(C=1e6, tol=1e-9, max_iter=10000)
    reference.fit(layer_normed(train), train.labels)
    expected = reference.predict(layer_normed(test))
    assert result.outcomes["prediction"] == expected.tolist()
    assert result.scores[0].value == accuracy_score(test.labels, expected)
    assert 0.4 < result.scores[0].value < 0.9


def layer_normed(features: FeatureSet) -> npt.NDArray[np.float64]:
    pooled = features.pooled[:, 0].astype(np.float64)
    centred = pooled - pooled.mean(axis=1, keepdims=True)
    normed: npt.NDArray[np.float64] = centred / np.sqrt(pooled.var(axis=1, keepdims=True) + 1e-6)
    return normed


def test_a_feature_of_hardly_any_spread_still_tells_classes(make_features: Make) -> None:
    # As of untrained encoders: all clips look alike, but for a little that is the class.
    draws = np.random.default_rng(0)
    labels = np.arange(90) % 3
    rows = draws.normal(size=8) * 3 + np.eye(3, 8)[labels] * 1e-3
    rows += draws.normal(size=(90, 8)) * 2e-4
    train = make_features(rows[:60].tolist(), labels[:60].tolist())
    test = make_features(rows[60:].tolist(), labels[60:].tolist(), prefix="test")

    assert QUICK.scores(train, test, seed=0).scores[0].value == 1.0


def test_the_pair_is_named_with_what_chose_it(blobs: Make) -> None:
    (note,) = QUICK.scores(blobs(90, 0), blobs(9, 1), seed=0).notes
    (decay,) = (
        LinearProbe(learning_rate=0.01, min_steps=200)
        .scores(blobs(90, 0), blobs(9, 1), seed=0)
        .notes
    )

    assert note.startswith("learning rate ")
    assert note.endswith("chosen on 18 held-out training clips, then fitted on all")
    assert decay.startswith("learning rate 0.01 and weight decay ")


@pytest.mark.parametrize(
    ("pair", "is_edge"),
    [
        (Pair(1e-3, 0.0), True),
        (Pair(1e-1, 0.01), True),
        (Pair(1e-2, 0.1), True),
        (Pair(1e-2, 0.0), False),  # less than none there cannot be
        (Pair(1e-2, 0.01), False),
    ],
)
def test_an_edge_of_the_grid_is_where_a_better_pair_may_lie_outside(
    pair: Pair, is_edge: bool
) -> None:
    grid = [Pair(rate, decay) for rate in (1e-3, 1e-2, 1e-1) for decay in (0.0, 0.01, 0.1)]

    assert pair.is_edge_of(grid) == is_edge
    fixed = [Pair(pair.learning_rate, decay) for decay in (0.0, 0.01, 0.1)]
    assert pair.is_edge_of(fixed) == (pair.weight_decay == 0.1)


@pytest.mark.parametrize(
    ("groups", "held_out"),
    [
        ([f"g{number // 8}" for number in range(40)], 8),  # one of five
        ([f"g{number // 4}" for number in range(40)], 8),  # two of ten
        ([None, *["g"] * 10, *["h"] * 29], 6),  # a fifth of each class, rounded down
        (["g"] * 40, 6),
    ],
)
def test_whole_groups_choose_the_pair_where_every_training_sample_has_one(
    blobs: Make, groups: list[str | None], held_out: int
) -> None:
    train = replace(blobs(40, 0), groups=groups)

    (note,) = QUICK.scores(train, blobs(9, 1), seed=0).notes

    assert f"chosen on {held_out} held-out training clips" in note


def test_a_fixed_pair_holds_nothing_out_and_says_nothing(blobs: Make) -> None:
    probe = LinearProbe(learning_rate=0.01, weight_decay=0.0)

    assert probe.scores(blobs(30, 0), blobs(9, 1), seed=0).notes == ()


def test_the_chosen_pair_is_fitted_on_all_training_clips(blobs: Make) -> None:
    train, test = blobs(60, 0, spread=3.0), blobs(20, 1, spread=3.0)

    def said(probe: LinearProbe) -> Classified:
        (one,) = probe.classify(train, test, [Fold.whole(train, test)], seed=0)
        return one

    swept = said(QUICK)
    words = swept.notes[0].split()
    pair = {"learning_rate": float(words[2]), "weight_decay": float(words[6])}
    fixed = said(LinearProbe(min_steps=200, **pair))

    assert np.allclose(swept.class_scores, fixed.class_scores, atol=1e-4)


def test_the_test_split_does_not_change_the_probe(blobs: Make) -> None:
    train, test = blobs(90, 0, spread=3.0), blobs(60, 1, spread=3.0)
    shuffled = replace(test, labels=np.roll(test.labels, 1))

    first = QUICK.scores(train, test, seed=0)
    second = QUICK.scores(train, shuffled, seed=0)

    assert first.outcomes["prediction"] == second.outcomes["prediction"]
    assert first.notes == second.notes


def test_equal_seeds_give_equal_probabilities_and_others_do_not(blobs: Make) -> None:
    train, test = blobs(60, 0, spread=3.0), blobs(20, 1, spread=3.0)
    probe = LinearProbe(batch_clips=20, min_steps=20, epochs=1)
    whole = [Fold.whole(train, test)]

    first, again, other = (
        next(iter(probe.classify(train, test, whole, seed))).class_scores for seed in (0, 0, 1)
    )

    assert (first == again).all()
    assert (first != other).any()


def test_views_are_merged_by_the_mean_of_their_probabilities(blobs: Make) -> None:
    train, test = blobs(60, 0, spread=2.0), blobs(40, 1, spread=2.0)
    others = blobs(40, 2, spread=2.0)
    both = replace(test, pooled=np.concatenate([test.pooled, others.pooled], axis=1))
    probe = LinearProbe(learning_rate=0.01, weight_decay=0.0, min_steps=100)

    def log_shares(test: FeatureSet) -> torch.Tensor:
        (said,) = probe.classify(train, test, [Fold.whole(train, test)], seed=0)
        return torch.from_numpy(said.class_scores)

    mean = (log_shares(test).exp() + log_shares(others).exp()) / 2
    assert torch.allclose(log_shares(both).exp(), mean)


def test_a_constant_feature_and_tiny_classes_are_survived(make_features: Make) -> None:
    train = make_features([[1, 5, 0], [-1, 5, 0], [1.1, 5, 0]], [0, 1, 0], num_classes=3)
    test = make_features([[1, 5, 0], [-1, 5, 0]], [0, 1], prefix="test", num_classes=3)

    result = QUICK.scores(train, test, seed=0)

    assert result.scores[0].value == 1.0
    fixed = LinearProbe(learning_rate=0.1, min_steps=200).scores(train, test, seed=0)

    assert fixed.notes[0].endswith(": learning rate 0.1 and weight decay 0.01")
    assert result.notes == (
        "training split too small to hold a part out: learning rate 0.01 and weight decay 0.01",
    )


def test_a_class_without_training_samples_is_never_predicted(make_features: Make) -> None:
    train = make_features([[1.0, 0.0], [0.0, 2.0]] * 5, [1, 2] * 5)
    test = make_features([[1.0, 0.0], [2.0, 1.9]], [1, 0], prefix="test", num_classes=3)

    result = LinearProbe(weight_decay=1.0, min_steps=200).scores(train, test, seed=0)

    assert set(result.outcomes["prediction"]) <= {1, 2}
    assert result.scores[0].value == pytest.approx(0.5)
