"""Matching of clusters to objects: answers worked out by hand, then a brute-force matcher."""

from itertools import permutations

import numpy as np
import pytest

from sigma_pipeline.jobs.benchmarks.matching import (
    contingency,
    hungarian_match,
    many_to_one_match,
    matched_iou,
)


def test_contingency_counts_pixels() -> None:
    clusters = np.array([[0, 0, 1], [2, 1, 1]])
    objects = np.array([[0, 1, 1], [0, 1, 0]])

    assert contingency(clusters, objects, 4).tolist() == [[1, 1], [1, 2], [1, 0], [0, 0]]


def test_renamed_clusters_score_one() -> None:
    objects = np.array([0, 0, 1, 1, 2])
    counts = contingency(np.array([2, 2, 0, 0, 1]), objects, 3)

    assert hungarian_match(counts).tolist() == [1, 2, 0]
    assert matched_iou(counts, hungarian_match(counts), 0).tolist() == [1, 1, 1]


def test_hungarian_iou_of_a_hand_made_table() -> None:
    # Columns: background 6 px, object 4 px. IoU table: [[5/6, 0/9], [1/10, 4/5]].
    counts = np.array([[5, 0], [1, 4]])

    matched = hungarian_match(counts)

    assert matched.tolist() == [0, 1]
    assert matched_iou(counts, matched, 0) == pytest.approx([5 / 6, 4 / 5])


def test_unmatched_clusters_fall_to_the_background() -> None:
    counts = np.array([[4, 0], [0, 3], [2, 1]])

    matched = hungarian_match(counts)

    assert matched.tolist() == [0, 1, -1]
    # Background takes clusters 0 and 2: 6 hits, 7 predicted, 6 true; the object: 3 of 4.
    assert matched_iou(counts, matched, 0) == pytest.approx([6 / 7, 3 / 4])
    assert matched_iou(counts, matched, None) == pytest.approx([4 / 6, 3 / 4])


def test_over_clustering_merges_clusters_of_one_object() -> None:
    counts = np.array([[3, 1], [2, 0], [0, 5], [1, 2]])

    matched = many_to_one_match(counts)

    assert matched.tolist() == [0, 0, 1, 1]
    # Background: 5 hits, 6 predicted, 6 true; object: 7 hits, 8 predicted, 8 true.
    assert matched_iou(counts, matched, 0) == pytest.approx([5 / 7, 7 / 9])


@pytest.mark.parametrize("seed", range(5))
def test_no_one_to_one_matching_has_a_higher_sum_of_iou(seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 50, size=(4, 4))

    best = max(matched_iou(counts, np.array(order), None).sum() for order in permutations(range(4)))

    assert matched_iou(counts, hungarian_match(counts), None).sum() == pytest.approx(best)
