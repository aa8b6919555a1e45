"""Linear probe: against scikit-learn, and that the test split chooses nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet
from sigma_pipeline.jobs.benchmarks.linear import LinearProbe, stratified_part

Make = Callable[..., FeatureSet]


def test_the_optimum_agrees_with_scikit_learn(blobs: Make) -> None:
    train, test = blobs(90, 0, spread=3.0), blobs(60, 1, spread=3.0)
    decay = 0.1

    result = LinearProbe(weight_decay=decay).scores(train, test, seed=0)

    mean, scale = train.pooled.mean(axis=0), train.pooled.std(axis=0)
    reference = LogisticRegression(C=1 / (decay * 90), tol=1e-8, max_iter=1000)
    reference.fit((train.pooled - mean) / scale, train.labels)
    expected = reference.predict((test.pooled - mean) / scale)
    assert result.outcomes["prediction"] == expected.tolist()
    assert 0.4 < result.scores[0].value < 1


def test_features_of_any_scale_give_the_same_predictions(blobs: Make) -> None:
    train, test = blobs(90, 0, spread=3.0), blobs(60, 1, spread=3.0)
    scale = np.float32(10) ** np.arange(-3, 5, dtype=np.float32)

    plain = LinearProbe().scores(train, test, seed=0)
    scaled = LinearProbe().scores(
        replace(train, pooled=train.pooled * scale), replace(test, pooled=test.pooled * scale), 0
    )

    assert plain.outcomes["prediction"] == scaled.outcomes["prediction"]


def test_noise_gets_a_strong_weight_decay_and_signal_does_not(blobs: Make) -> None:
    signal, noise = blobs(120, 0, spread=0.3), blobs(120, 0, spread=100.0)

    assert "weight decay 0.0001" in LinearProbe().scores(signal, signal, seed=0).notes[0]
    assert "weight decay 10 " in LinearProbe().scores(noise, noise, seed=0).notes[0]


def test_the_test_split_does_not_change_the_probe(blobs: Make) -> None:
    train, test = blobs(90, 0, spread=3.0), blobs(60, 1, spread=3.0)
    shuffled = replace(test, labels=np.roll(test.labels, 1))

    first = LinearProbe().scores(train, test, seed=0)
    second = LinearProbe().scores(train, shuffled, seed=0)

    assert first.outcomes["prediction"] == second.outcomes["prediction"]
    assert first.notes == second.notes


def test_the_seed_draws_the_held_out_part_and_leaves_each_class_something() -> None:
    labels = np.array([0] * 10 + [1] * 5 + [2])

    part = stratified_part(labels, 0.2, seed=0)

    assert np.bincount(labels[part], minlength=3).tolist() == [2, 1, 0]
    assert (part == stratified_part(labels, 0.2, seed=0)).all()
    assert any((part != stratified_part(labels, 0.2, seed=s)).any() for s in range(1, 5))


def test_a_constant_feature_and_tiny_classes_are_survived(make_features: Make) -> None:
    train = make_features([[1, 5], [-1, 5], [1.1, 5]], [0, 1, 0], num_classes=3)
    test = make_features([[1, 5], [-1, 5]], [0, 1], prefix="test", num_classes=3)

    result = LinearProbe().scores(train, test, seed=0)

    assert result.scores[0].value == 1.0
    assert "too small to hold a part out" in result.notes[0]


def test_a_class_without_training_samples_is_never_predicted(make_features: Make) -> None:
    train = make_features([[1.0], [2.0]] * 5, [1, 2] * 5)
    test = make_features([[1.0], [2.0]], [1, 0], prefix="test", num_classes=3)

    result = LinearProbe(weight_decay=10.0).scores(train, test, seed=0)

    assert set(result.outcomes["prediction"]) <= {1, 2}
    assert result.scores[0].value == pytest.approx(0.5)
