"""Anchors: which are right, and how a length becomes an offset and a length again."""

import numpy as np
import pytest

from sigma_pipeline.jobs.benchmarks.cycle_anchors import (
    ANCHORS,
    anchor_targets,
    best_lengths,
    overlaps,
)


def test_anchors_are_right_that_overlap_by_more_than_half() -> None:
    labels, offsets = anchor_targets(np.array(10.0), np.array(10.0))

    assert labels.tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert offsets[3] == 0
    assert offsets[2] == pytest.approx(np.log(10 / 8))
    assert (offsets[labels == 0] == 0).all()


def test_nothing_is_said_of_a_length_that_is_not_known() -> None:
    targets = anchor_targets(np.array([10.0, 10.0]), np.array([np.nan, 5.0]))

    assert (targets[0, 0] == -1).all()
    assert (targets[0, 1] == 0).all()
    assert targets[1, 0].tolist() == [1, 1, 1, 0, 0, 0, 0]


def test_a_guess_that_is_far_off_has_no_right_anchor() -> None:
    assert not anchor_targets(np.array(10.0), np.array(45.0))[0].any()


def test_lengths_come_back_from_the_offset_of_whichever_anchor_is_likeliest() -> None:
    lengths = np.array([7.0, 13.0, 19.0])
    guesses = np.full(3, 11.0)
    labels, offsets = np.moveaxis(anchor_targets(guesses, lengths).astype(np.float64), 1, 0)

    for anchor in range(len(ANCHORS)):
        found, sure = best_lengths(guesses, 0.4 * labels + 0.1 * np.eye(7)[anchor], offsets)
        is_right = labels[:, anchor] == 1
        assert found == pytest.approx(lengths, rel=1e-6)
        assert sure.tolist() == pytest.approx(np.where(is_right, 0.5, 0.4).tolist())


def test_overlap_is_that_of_spans_with_one_common_end() -> None:
    assert overlaps(np.array([10.0, 5.0]), np.array([5.0, 20.0])).tolist() == [0.5, 0.25]
