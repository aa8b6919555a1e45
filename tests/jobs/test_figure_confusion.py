"""The confusion map: what is counted, and which pixel says it."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from sigma_pipeline.jobs.benchmarks.figures import Confusion
from sigma_pipeline.jobs.figure_confusion import (
    MAX_NAMED_CLASSES,
    ConfusionMatrix,
    draw_confusion,
    share_colour,
)

NAMES = ["jump", "run", "sit", "never seen"]
THREE = Confusion(labels=[0, 0, 0, 0, 1, 2], predictions=[0, 0, 0, 1, 1, 0])


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_counts_are_those_of_scikit_learn() -> None:
    draws = np.random.default_rng(0)
    labels, predictions = draws.integers(0, 12, size=(2, 500))

    matrix = ConfusionMatrix.of(
        Confusion(labels.tolist(), predictions.tolist()), [str(i) for i in range(12)]
    )

    assert np.array_equal(matrix.counts, confusion_matrix(labels, predictions))


def test_classes_that_nothing_is_or_is_taken_for_are_left_out() -> None:
    matrix = ConfusionMatrix.of(THREE, NAMES)

    assert matrix.names == ("jump", "run", "sit")
    assert matrix.counts.tolist() == [[3, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_a_class_without_samples_has_no_shares() -> None:
    matrix = ConfusionMatrix.of(Confusion(labels=[0, 0], predictions=[0, 3]), NAMES)

    assert matrix.shares.tolist() == [[0.5, 0.5], [0, 0]]
    assert matrix.heading[0] == "2 samples of 1 classes, 1 right (50.0%)"


def test_pairs_are_listed_by_how_many_samples_are_confused() -> None:
    labels, predictions = [0] * 9 + [1] * 2 + [2] * 3, [0] * 6 + [2] * 3 + [0] * 2 + [2] * 3

    pairs = ConfusionMatrix.of(Confusion(labels, predictions), NAMES).confused_pairs()

    assert pairs == [("jump", "sit", 3, pytest.approx(1 / 3)), ("run", "jump", 2, 1.0)]


def test_each_cell_has_the_colour_of_its_share() -> None:
    picture = pixels(draw_confusion(THREE, NAMES))

    # The only cells with all of a row; the map's corner is that of the first column's cells.
    cell = 44
    is_full = (picture == share_colour(1.0)).all(axis=-1)
    is_full[-44:] = False  # the legend's end has the same colour
    down, right = np.argwhere(is_full).min(axis=0) - (cell, 0)  # (sit, jump) is the leftmost
    shares = ConfusionMatrix.of(THREE, NAMES).shares
    for row, column in np.ndindex(3, 3):
        corner = picture[down + row * cell + 3, right + column * cell + 3]
        assert corner.tolist() == share_colour(shares[row, column]).tolist()


def test_colours_go_from_white_to_dark_and_never_back() -> None:
    brightness = share_colour(np.linspace(0, 1, 101)).astype(int).sum(axis=-1)

    assert share_colour(0.0).tolist() == [255, 255, 255]
    assert (np.diff(brightness) < 0).all()


@pytest.mark.parametrize("num_classes", [2, MAX_NAMED_CLASSES, MAX_NAMED_CLASSES + 1, 700])
def test_any_number_of_classes_fits_a_screen(num_classes: int) -> None:
    draws = np.random.default_rng(0)
    labels = draws.permutation(num_classes).tolist()
    names = [f"pretending to put something onto something {i}" for i in range(num_classes)]

    confusion = Confusion(labels, draws.permutation(labels).tolist())
    data = draw_confusion(confusion, names)

    assert max(pixels(data).shape[:2]) <= 1800
    assert draw_confusion(confusion, names) == data
