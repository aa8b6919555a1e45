"""Matching of clusters to objects: answers worked out by hand, then a brute-force matcher."""

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest

from sigma_pipeline.jobs.benchmarks.matching import (
    contingency,
    hungarian_match,
    many_to_one_match,
    matched_ids,
    matched_iou,
    merge_categories,
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


def iou(found: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    return float((found & true).sum() / (found | true).sum())


@pytest.mark.parametrize("num_clusters", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_mean_iou_is_that_of_the_best_of_all_assignments_of_pixels(
    seed: int, num_clusters: int
) -> None:
    draws = np.random.default_rng([seed, num_clusters])
    objects = draws.integers(0, 3, size=(2, 6, 6))
    is_right = draws.random(objects.shape) < 0.6
    clusters = np.where(is_right, objects, draws.integers(0, num_clusters, size=objects.shape))
    clusters %= num_clusters

    counts = contingency(clusters, objects, num_clusters)
    mean = matched_iou(counts, hungarian_match(counts), 0).mean()

    def sum_of_pairs(order: tuple[int, ...]) -> float:
        return sum(iou(clusters == c, objects == g) for g, c in enumerate(order) if c >= 0)

    slots = [*range(num_clusters), *[-1] * max(0, 3 - num_clusters)]
    best = max(permutations(slots, 3), key=sum_of_pairs)
    found = np.zeros_like(objects)  # clusters that nothing matches are background
    for number, cluster in enumerate(best):
        found[clusters == cluster] = number
    expected = np.mean([iou(found == number, objects == number) for number in range(3)])
    assert mean == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_over_clustering_is_what_explicit_loops_give(seed: int) -> None:
    draws = np.random.default_rng(seed)
    objects = draws.integers(0, 4, size=(2, 8, 8))
    clusters = (objects * 3 + draws.integers(0, 5, size=objects.shape)) % 10

    found = np.zeros_like(objects)
    for cluster in range(10):
        inside = clusters == cluster
        if inside.any():
            shares = [(inside & (objects == number)).sum() / inside.sum() for number in range(4)]
            found[inside] = int(np.argmax(shares))
    expected = np.mean([iou(found == number, objects == number) for number in range(4)])

    counts = contingency(clusters, objects, 10)
    matched = many_to_one_match(counts)
    assert matched_iou(counts, matched, 0).mean() == pytest.approx(expected, abs=1e-4)
    assert np.array_equal(matched_ids(clusters, matched, np.arange(4)), found)


def test_predicted_ids_are_those_of_the_objects() -> None:
    found = matched_ids(np.array([[0, 1], [2, 0]]), np.array([1, -1, 0]), np.array([3, 255]))

    assert found.tolist() == [[255, 0], [3, 255]]


def test_categories_merge_to_the_lowest_id_and_no_id_is_merged_twice() -> None:
    # Replaced one after another in place, ape 4 -> 2 and then sign 2 -> 1 would collide.
    categories = {1: "sign", 2: "ape", 3: "sign", 4: "ape"}

    merged = merge_categories(np.array([0, 1, 2, 3, 4, 5, 255], dtype=np.uint8), categories)

    assert merged.tolist() == [0, 1, 2, 1, 2, 5, 255]


def test_categories_of_what_is_no_object_are_passed_over() -> None:
    ids = np.array([0, 7, 255], dtype=np.uint8)

    assert merge_categories(ids, {0: "a", 7: "a", 255: "a", 300: "a"}).tolist() == [0, 7, 255]
