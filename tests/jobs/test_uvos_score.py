"""mIoU of folders of cluster maps, against a matcher that tries everything."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.jobs.uvos_score import nearest, score_clip
from tests.mask_folders import Ids, two_objects, write_sequence


def iou(ours: Ids, theirs: Ids) -> float:
    return float((ours & theirs).sum() / (ours | theirs).sum())


def brute_force_miou(clusters: Ids, truth: Ids) -> float:
    """The best of all one-to-one matchings by the sum of IoU; unmatched clusters: background."""
    names, objects = np.unique(clusters), np.unique(truth)
    matched = min(len(names), len(objects))
    best = max(
        (
            dict(zip(chosen, order, strict=True))
            for chosen in permutations(names, matched)
            for order in permutations(objects, matched)
        ),
        key=lambda pairs: sum(iou(clusters == name, truth == of) for name, of in pairs.items()),
    )
    predicted = np.zeros_like(clusters)
    for name, of in best.items():
        predicted[clusters == name] = of
    return float(np.mean([iou(predicted == of, truth == of) for of in objects]))


@pytest.mark.parametrize("num_clusters", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_miou_is_that_of_the_best_of_all_matchings(
    tmp_path: Path, num_clusters: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, (2, 5, 6), dtype=np.uint8)
    noise = generator.integers(0, num_clusters, truth.shape, dtype=np.uint8)
    clusters = np.where(generator.random(truth.shape) < 0.5, truth % num_clusters, noise) * 40 + 7

    scored = score_clip(
        write_sequence(tmp_path / "maps", clusters.astype(np.uint8)),
        write_sequence(tmp_path / "truth", truth),
        "hungarian",
    )

    assert f"{scored.miou:.4f}" == f"{brute_force_miou(clusters, truth):.4f}"


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Two objects, background and void."""
    return write_sequence(tmp_path / "truth", two_objects())


def test_cluster_names_do_not_matter_and_void_is_not_scored(
    tmp_path: Path, annotations: Path
) -> None:
    names = np.arange(256, dtype=np.uint8)
    names[[0, 1, 2, 255]] = 9, 0, 200, 200
    maps = write_sequence(tmp_path / "maps", names[two_objects()])

    scored = score_clip(maps, annotations, "hungarian")
    with_void = score_clip(maps, annotations, "hungarian", void_as_class=True)

    assert (scored.miou, scored.objects, scored.clusters, scored.frames) == (1, 3, 3, 5)
    # Void, 32 pixels a frame, is now in the cluster of object 2, of 56.
    assert with_void.objects == 4
    assert with_void.miou == pytest.approx((1 + 1 + 56 / 88 + 0) / 4)


def test_many_clusters_may_share_an_object(tmp_path: Path, annotations: Path) -> None:
    clusters = two_objects() % 255
    clusters[:, :, 5:][clusters[:, :, 5:] == 1] = 3
    maps = write_sequence(tmp_path / "maps", clusters)

    assert score_clip(maps, annotations, "many-to-one").miou == 1
    assert score_clip(maps, annotations, "hungarian").miou < 1


def test_frames_without_a_map_are_not_scored(tmp_path: Path, annotations: Path) -> None:
    maps = write_sequence(tmp_path / "maps", {"00003": two_objects()[3]})

    scored = score_clip(maps, annotations, "hungarian")

    assert (scored.miou, scored.frames) == (1, 1)


def test_annotations_are_brought_to_the_size_of_the_maps(tmp_path: Path, annotations: Path) -> None:
    small = nearest(two_objects(), (12, 8))
    maps = write_sequence(tmp_path / "maps", small)

    scored = score_clip(maps, annotations, "hungarian")

    assert (scored.miou, scored.resized_to) == (1, (12, 8))
    assert small[0, 4].tolist() == two_objects()[0, 9, 2::4].tolist()


def test_a_map_of_an_unknown_frame_is_refused(tmp_path: Path, annotations: Path) -> None:
    maps = write_sequence(tmp_path / "maps", {"7": two_objects()[0]})

    with pytest.raises(MissingInputError, match=r"7\.png has no annotation .*7\.png: name cluster"):
        score_clip(maps, annotations, "hungarian")


def test_a_clip_that_is_all_void_is_refused(tmp_path: Path) -> None:
    truth = two_objects()
    truth[1] = 255
    annotations = write_sequence(tmp_path / "truth", truth)
    maps = write_sequence(tmp_path / "maps", {"00001": two_objects()[1]})

    with pytest.raises(ConfigError, match="annotates no pixel"):
        score_clip(maps, annotations, "hungarian")
