"""J and F against answers worked out by hand, a slow reference, and DAVIS's published numbers."""

import json
from collections.abc import Callable
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sigma_pipeline.jobs.benchmarks.davis_metrics import (
    Mask,
    Measure,
    ObjectScores,
    boundary,
    boundary_accuracy,
    dilated,
    global_scores,
    num_objects,
    region_similarity,
    sequence_scores,
)

Points = npt.NDArray[np.int64]


def slow_boundary(mask: Mask) -> Points:
    """Boundary pixels [points, 2], each pixel asked for itself."""
    height, width = mask.shape
    points = []
    for y in range(height):
        for x in range(width):
            if y == height - 1:
                neighbours = [(y, x + 1)]
            elif x == width - 1:
                neighbours = [(y + 1, x)]
            else:
                neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if any(mask[y, x] != mask[at] for at in neighbours if at[1] < width):
                points.append((y, x))
    return np.array(points, dtype=np.int64).reshape(-1, 2)


def slow_boundary_accuracy(mask: Mask, truth: Mask) -> float:
    found, wanted = slow_boundary(mask), slow_boundary(truth)
    if not len(found) or not len(wanted):
        return float(len(found) == len(wanted))
    tolerance = ceil(0.008 * (mask.shape[0] ** 2 + mask.shape[1] ** 2) ** 0.5)
    is_near = ((found[:, None] - wanted[None]) ** 2).sum(axis=2) <= tolerance**2
    precision, recall = is_near.any(axis=1).mean(), is_near.any(axis=0).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def blobs(shape: tuple[int, int], seed: int) -> Mask:
    """A few overlapping rectangles, some of which touch the border."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(shape, dtype=np.bool_)
    for _ in range(4):
        top, left = generator.integers(0, shape)
        mask[top : top + shape[0] // 3, left : left + shape[1] // 4] ^= True
    return mask


def noise(shape: tuple[int, int], seed: int) -> Mask:
    return np.random.default_rng(seed).random(shape) < 0.02


def scores_of(object_id: int, j: tuple[float, ...], f: tuple[float, ...]) -> ObjectScores:
    return ObjectScores(object_id, Measure(j), Measure(f))


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (7, 1), (9, 13)])
def test_the_boundary_is_what_pixels_find_one_by_one(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(shape) < 0.5

    assert np.array_equal(np.argwhere(boundary(mask)), slow_boundary(mask))


@pytest.mark.parametrize("radius_px", [0, 1, 2, 5, 8])
def test_dilation_takes_all_pixels_within_the_radius(radius_px: int) -> None:
    points = noise((23, 37), seed=radius_px)
    grid = np.argwhere(np.ones_like(points))
    distances = ((grid[:, None] - np.argwhere(points)[None]) ** 2).sum(axis=2)

    expected = (distances <= radius_px**2).any(axis=1).reshape(points.shape)

    assert np.array_equal(dilated(points, radius_px), expected)


@pytest.mark.parametrize("draw", [blobs, noise])
@pytest.mark.parametrize("shape", [(20, 31), (90, 120), (60, 400)])
def test_f_is_that_of_the_slow_reference(
    draw: Callable[[tuple[int, int], int], Mask], shape: tuple[int, int]
) -> None:
    for seed in range(0, 6, 2):
        mask, truth = draw(shape, seed), draw(shape, seed + 1)

        expected = slow_boundary_accuracy(mask, truth)
        assert boundary_accuracy(mask, truth) == pytest.approx(expected, abs=1e-12)


def test_j_is_intersection_over_union() -> None:
    mask, truth = np.zeros((2, 4, 4), dtype=np.bool_)
    mask[:2], truth[1:3] = True, True

    assert region_similarity(mask, truth) == pytest.approx(4 / 12)


def test_empty_masks_agree_with_each_other_alone() -> None:
    empty, some, full = np.zeros((3, 8, 8), dtype=np.bool_)
    some[2:5, 2:5], full[:] = True, True

    assert (region_similarity(empty, empty), boundary_accuracy(empty, empty)) == (1, 1)
    for mask, truth in ((empty, some), (some, empty)):
        assert (region_similarity(mask, truth), boundary_accuracy(mask, truth)) == (0, 0)
    # A mask of all pixels has no boundary, as little as an empty one.
    assert (region_similarity(full, empty), boundary_accuracy(full, empty)) == (0, 1)


def test_boundaries_just_within_the_tolerance_match_and_beyond_it_do_not() -> None:
    truth = np.zeros((480, 854), dtype=np.bool_)
    truth[100:300, 200:500] = True

    # 0.008 of the diagonal is 7.84 pixels.
    assert boundary_accuracy(np.roll(truth, 8, axis=1), truth) == 1
    assert boundary_accuracy(np.roll(truth, 9, axis=1), truth) < 1


def test_recall_counts_frames_above_a_half() -> None:
    assert Measure((0.5, 0.50001, 1.0, 0.2)).recall == 0.5


@pytest.mark.parametrize(
    ("per_frame", "expected"),
    [
        ((0.7,), 0.0),
        ((0.7, 0.4), 0.3),
        # Of 8 frames: the first three and the last three.
        ((1.0, 0.9, 0.8, 0.0, 0.0, 0.3, 0.2, 0.1), 0.9 - 0.2),
        # Of 300: the first 76 and the last 76, their middles 224 frames apart.
        (tuple(np.linspace(1, 0, 300)), 224 / 299),
    ],
)
def test_decay_is_the_first_quarter_less_the_last(
    per_frame: tuple[float, ...], expected: float
) -> None:
    assert Measure(per_frame).decay == pytest.approx(expected)


def test_objects_are_those_of_the_first_frame_and_void_is_background() -> None:
    truth = np.zeros((4, 6, 6), dtype=np.uint8)
    truth[:, :3, :3], truth[:, 4:, 4:], truth[:, 0, 5] = 1, 2, 255
    truth[1:, 5, 0] = 3
    predicted = np.where(truth == 2, 0, truth % 255).astype(np.uint8)

    first, second = sequence_scores(predicted, truth)

    assert (first.object_id, second.object_id) == (1, 2)
    assert first.j.per_frame == first.f.per_frame == (1.0, 1.0)
    assert second.j.per_frame == second.f.per_frame == (0.0, 0.0)


def test_objects_are_counted_to_the_highest_id_of_the_first_frame() -> None:
    first = np.array([[0, 3, 255]], dtype=np.uint8)

    assert num_objects(first) == 3
    assert num_objects(first[:, ::2]) == 0


def test_the_first_and_the_last_frame_do_not_count() -> None:
    truth = np.zeros((5, 6, 6), dtype=np.uint8)
    truth[:, :3] = 1
    predicted = truth.copy()
    predicted[[0, -1]] = 0

    assert sequence_scores(predicted, truth)[0].j.per_frame == (1.0, 1.0, 1.0)


def test_too_few_frames_or_other_shapes_are_refused() -> None:
    frames = np.ones((3, 4, 4), dtype=np.uint8)

    with pytest.raises(ValueError, match="at least 3 frames"):
        sequence_scores(frames[:2], frames[:2])
    with pytest.raises(ValueError, match="one shape"):
        sequence_scores(frames[:, :3], frames)


def test_the_global_means_weigh_objects_alike_whatever_their_sequence() -> None:
    means = global_scores(
        [
            scores_of(1, (1.0, 0.0), (0.6, 0.6)),
            scores_of(2, (0.2,), (0.1,)),
            scores_of(1, (0.8,), (0.5,)),
        ]
    )

    assert list(means) == [
        "J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay",
    ]  # fmt: skip
    assert means["J-Mean"] == pytest.approx(0.5)
    assert means["J-Recall"] == pytest.approx(0.5)
    assert means["J-Decay"] == pytest.approx(1 / 3)
    assert means["F-Mean"] == pytest.approx(0.4)
    assert means["F-Recall"] == pytest.approx(1 / 3)
    assert means["J&F-Mean"] == pytest.approx(0.45)


@pytest.mark.parametrize("sequence", ["blackswan", "car-shadow"])
def test_published_masks_get_their_published_scores(real_videos: Path, sequence: str) -> None:
    davis = real_videos / "vos" / "DAVIS"
    published = json.loads((davis / "Results" / "osvos_official_JF_2017.json").read_text())

    (scored,) = sequence_scores(
        frames(davis / "Results" / "osvos" / sequence),
        frames(davis / "Annotations" / "480p" / sequence) // 255,
    )

    expected = published[f"{sequence}_1"]
    assert f"{scored.j.mean:.4f}" == expected["J"]
    assert f"{scored.f.mean:.4f}" == expected["F"]


def frames(folder: Path) -> npt.NDArray[np.uint8]:
    return np.stack([np.array(Image.open(path)) for path in sorted(folder.glob("*.png"))])
