"""Unsupervised video segmentation by others' cluster maps: mIoU of a folder of PNGs, per clip.

Scored are the frames that have a cluster map, which bears the name of its annotation. Maps that
``uvos`` kept are named by the number of their frame, as DAVIS's annotations are; those of
YouTube-VOS are not (00000, 00005). Annotations of another size are brought to that of the maps by
nearest neighbour, as TimeT does it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.jobs.benchmarks.benchmark import VOID_ID
from sigma_pipeline.jobs.benchmarks.davis_metrics import Ids
from sigma_pipeline.jobs.benchmarks.matching import (
    Counts,
    hungarian_match,
    many_to_one_match,
    matched_iou,
)
from sigma_pipeline.jobs.mask_files import frame_files, read_stack, with_binary_as_object

Matching = Literal["hungarian", "many-to-one"]
_MATCHES = {"hungarian": hungarian_match, "many-to-one": many_to_one_match}
_NUM_IDS = 256


@dataclass(frozen=True)
class ScoredClip:
    """Mean IoU of one clip, and over what."""

    miou: float
    """Over the ids that the annotation shows, background among them."""
    frames: int
    objects: int
    """Background is one."""
    clusters: int
    is_binary: bool
    """The annotations were grey masks, with 255 for the one object."""
    resized_to: tuple[int, int] | None
    """Height and width of the cluster maps, where the annotations had to be brought to them."""


def score_clip(
    predictions: Path, annotations: Path, matching: Matching, *, void_as_class: bool = False
) -> ScoredClip:
    """Matches the clusters of one clip to its objects, all frames together (protocols 6.2, 8-9).

    Args:
        predictions: folder of PNGs of cluster ids, named as those in ``annotations``.
        annotations: folder of PNGs of object ids.
        matching: one cluster per object, or each cluster to the object that fills most of it.
        void_as_class: void is one more object (as TimeT has it), instead of not being scored.

    Raises:
        ConfigError: a file is damaged, or no pixel is annotated.
        MissingInputError: a cluster map has no annotation.
    """
    maps = frame_files(predictions)
    clusters = read_stack(list(maps.values()))
    truth, is_binary = _truth(annotations, maps)
    size = (clusters.shape[1], clusters.shape[2])
    is_resized = truth.shape != clusters.shape
    counts = id_counts(clusters, nearest(truth, size) if is_resized else truth)
    if not void_as_class:
        counts[:, VOID_ID] = 0
    if not counts.any():
        raise ConfigError(
            f"{annotations} annotates no pixel of the frames in {predictions}: leave this sequence "
            "out with --sequences FILE"
        )
    iou = _object_iou(counts, matching)
    return ScoredClip(
        miou=float(iou.mean()),
        frames=len(clusters),
        objects=len(iou),
        clusters=int(counts.any(axis=1).sum()),
        is_binary=is_binary,
        resized_to=size if is_resized else None,
    )


def _object_iou(counts: Counts, matching: Matching) -> npt.NDArray[np.float64]:
    """IoU of each id that the annotation shows, by pixels of all pairs of ids [256, 256]."""
    background = 0 if counts[:, 0].any() else None
    counts = counts[counts.any(axis=1)][:, counts.any(axis=0)]
    return matched_iou(counts, _MATCHES[matching](counts), background)


def id_counts(clusters: Ids, objects: Ids) -> Counts:
    """Pixels of each pair of ids, [256, 256], over maps [frames, height, width]."""
    counts = np.zeros(_NUM_IDS * _NUM_IDS, dtype=np.int64)
    for ours, theirs in zip(clusters, objects, strict=True):
        pairs = ours.ravel().astype(np.intp) * _NUM_IDS + theirs.ravel()
        counts += np.bincount(pairs, minlength=len(counts))
    return counts.reshape(_NUM_IDS, _NUM_IDS)


def nearest(ids: Ids, size: tuple[int, int]) -> Ids:
    """``ids`` [frames, height, width] at another height and width, read at pixel centres."""
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for old, new in zip(ids.shape[1:], size, strict=True)
    )
    return ids[:, rows[:, None], columns]


def _truth(annotations: Path, maps: dict[str, Path]) -> tuple[Ids, bool]:
    """The annotations of the frames in ``maps``, and whether they were grey masks."""
    there = frame_files(annotations)
    for name, path in maps.items():
        if name not in there:
            raise MissingInputError(
                f"{path} has no annotation {annotations / path.name}: name cluster maps as the "
                "frames they belong to"
            )
    # The first annotation shows the objects, even where the frames in question do not.
    first = next(iter(there.values()))
    ids, is_binary = with_binary_as_object(read_stack([first, *(there[name] for name in maps)]))
    return ids[1:], is_binary
