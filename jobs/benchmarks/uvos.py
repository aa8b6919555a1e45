"""Unsupervised video object segmentation by clustering tokens, as TimeT and SIGMA (protocols 6).

Per clip, over all its frames: k-means with as many clusters as the clip has objects (background is
one), matched one to one; and over-clustering with 10 clusters, each given to the object it lies in.
SIGMA's own code for this was not published: what had to be chosen here is a setting, and its
default is part of the version.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt
from torch import Tensor

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.jobs.benchmarks.benchmark import VOID_ID, Cost, FeatureSet, Needs, Result, Score
from sigma_pipeline.jobs.benchmarks.figures import Figure, Overlay
from sigma_pipeline.jobs.benchmarks.intervals import ONE_SEQUENCE, bootstrap_interval
from sigma_pipeline.jobs.benchmarks.matching import (
    Counts,
    contingency,
    hungarian_match,
    many_to_one_match,
    matched_ids,
    matched_iou,
    merge_categories,
)
from sigma_pipeline.jobs.benchmarks.token_clusters import (
    Start,
    fitted_centres,
    nearest_centres,
    principal_components,
    sampled_pixels,
)
from sigma_pipeline.jobs.vos_results import palette_png

_POINTS_PER_CLUSTER = 256  # faiss fits on no more points than this, and so did TimeT
_SHOWN_CLIPS = 3

Ids = npt.NDArray[np.uint8]
Match = Callable[[Counts], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class _Clip:
    """What is scored of one sample."""

    key: str
    name: str
    frames: npt.NDArray[np.int64]
    """[frames]: their numbers in the sample."""
    objects: Ids
    """[frames, height, width]: what is there."""
    grid: Tensor
    """[slices, rows, columns, dim]."""

    def files(self, found: Ids) -> dict[str, bytes]:
        """What was found, a picture of each frame, in the layout of DAVIS.

        Named by the number of the frame: DAVIS's own names, not those of YouTube-VOS.
        """
        return {
            f"predictions/hungarian/{self.name}/{frame:05d}.png": palette_png(ids)
            for frame, ids in zip(self.frames.tolist(), found, strict=True)
        }

    def overlay(self, title: str, found: Ids) -> Overlay:
        """What was found, to be laid over the frames."""
        return Overlay(self.key, title, self.frames.tolist(), found, is_whole_frame=False)


class _Outcome(NamedTuple):
    """Of one clip."""

    key: str
    miou: float
    miou_over: float
    objects: int
    """How many there are, background among them."""


class UnsupervisedVos(BaseModel, frozen=True, extra="forbid"):
    """Mean IoU with background, of clusters of the encoder's tokens."""

    name: ClassVar[str] = "uvos"
    version: ClassVar[int] = 2
    cost: ClassVar[Cost] = "cheap"
    summary: ClassVar[str] = "Unsupervised video object segmentation by clustering"

    layer: int = Field(default=-1, le=-1)
    """Whose tokens: -1 the last block's, after the final norm; -2 the block before, as they are."""
    time: Literal["repeat", "linear", "every_slice"] = "repeat"
    """How time slices become frames: each is ``repeat``ed for all its frames; or frames lie between
    slices (``linear``); or of each slice just the first frame is scored (``every_slice``)."""
    pca_dims: NonNegativeInt = 0
    """Tokens are standardised and reduced to this many principal components; TimeT's are 50. 0: as
    they come."""
    pca_scope: Literal["clip", "batch"] = "clip"
    """What standardising and PCA are fitted to: each clip, or (as TimeT) ``batch_clips`` of them
    together, so that a clip's score depends on its neighbours."""
    batch_clips: PositiveInt = 16
    """Of ``pca_scope: batch`` and ``average: batches``, in the order of the index."""
    fit_on: Literal["tokens", "pixels"] = "pixels"
    """What the centres are fitted to: the token grid, or (as TimeT) features up-sampled to pixels,
    at most 256 per cluster. Either way a pixel belongs to the centre nearest to its bilinearly
    up-sampled feature."""
    start: Start = "random"
    """Of k-means: ``random`` points as faiss, and so TimeT; ``spread``: k-means++, slower."""
    restarts: PositiveInt = 5
    iterations: PositiveInt = 50
    overclusters: PositiveInt = 10
    labels: Literal["instances", "categories"] = "instances"
    """``categories``: objects of one category are one, as TimeT has it on YouTube-VOS."""
    void_as_class: bool = False
    """Pixels that are not annotated are a class like any other, as in TimeT's code; else they are
    not scored."""
    average: Literal["clips", "batches"] = "clips"
    """``batches``: mean over batches of their means, as in TimeT's code, which gives more weight to
    clips of a small last batch."""
    kept_predictions: NonNegativeInt = 30
    """Of so many clips, the first ones, the matched clusters are kept as files."""

    @property
    def needs(self) -> Needs:
        """Object masks, and a feature of each token."""
        view = ViewConfig(sampling="random", crop="resize")
        return Needs(masks=True, tokens=True, layer=self.layer, pooled=False, view=view)

    def scores(self, train: FeatureSet | None, test: FeatureSet, seed: int) -> Result:
        """``miou`` (Hungarian) and ``miou_over`` (over-clustered), means over clips."""
        del train
        outcomes: list[_Outcome] = []
        files: dict[str, bytes] = {}
        figures: list[Figure] = []
        for number, clip in enumerate(self._clips(test)):
            ids = self._scored_ids(clip.objects)
            miou, found = self._segment(clip, ids, len(ids), hungarian_match, seed)
            miou_over, merged = self._segment(clip, ids, self.overclusters, many_to_one_match, seed)
            outcomes.append(_Outcome(clip.key, miou, miou_over, len(ids)))
            if number < self.kept_predictions:
                files |= clip.files(found)
            if number < _SHOWN_CLIPS:
                figures += [clip.overlay("hungarian", found), clip.overlay("overclusters", merged)]
        if not outcomes:
            raise ValueError("no sample has an annotated pixel")
        return Result(
            scores=(
                self._mean("miou", [one.miou for one in outcomes], seed),
                self._mean("miou_over", [one.miou_over for one in outcomes], seed),
            ),
            outcomes={name: [getattr(one, name) for one in outcomes] for name in _Outcome._fields},
            notes=tuple(self._notes([one.objects for one in outcomes], test.num_samples)),
            files=files,
            figures=tuple(figures),
        )

    def _clips(self, test: FeatureSet) -> Iterator[_Clip]:
        """What can be scored, in the order of the index."""
        tokens, masks = test.tokens, test.masks
        if tokens is None or masks is None:
            raise ValueError("this benchmark needs tokens and masks")
        if self.labels == "categories" and not any(masks.categories):
            raise ValueError(
                "labels: categories needs the categories of objects, which the dataset's "
                "annotations do not give; set labels: instances"
            )
        step = masks.ids.shape[1] // tokens.shape[1] if self.time == "every_slice" else 1
        seen = masks.ids[:, ::step]
        annotated = [i for i in range(test.num_samples) if (seen[i] != VOID_ID).any()]
        for first in range(0, len(annotated), self.batch_clips):
            batch = annotated[first : first + self.batch_clips]
            grids = torch.from_numpy(tokens[batch].astype(np.float32))
            for i, grid in zip(batch, self._reduced(grids), strict=True):
                yield _Clip(
                    key=test.keys[i],
                    name=masks.names[i],
                    frames=masks.frames[i, ::step],
                    objects=self._objects(seen[i], masks.categories[i]),
                    grid=grid,
                )

    def _reduced(self, grids: Tensor) -> Iterable[Tensor]:
        """Token grids of a batch of clips, with the dimensions that are clustered."""
        if not self.pca_dims:
            return grids
        if self.pca_scope == "batch":
            return principal_components(grids, self.pca_dims)
        return [principal_components(grid, self.pca_dims) for grid in grids]

    def _objects(self, ids: Ids, categories: Mapping[int, str]) -> Ids:
        return merge_categories(ids, categories) if self.labels == "categories" else np.asarray(ids)

    def _scored_ids(self, objects: Ids) -> npt.NDArray[np.int64]:
        ids = np.flatnonzero(np.bincount(objects.ravel()))
        return ids if self.void_as_class else ids[ids != VOID_ID]

    def _segment(
        self, clip: _Clip, ids: npt.NDArray[np.int64], num_clusters: int, match: Match, seed: int
    ) -> tuple[float, Ids]:
        """Mean IoU of the objects ``ids``, and which one each pixel was taken for."""
        clusters = self._cluster_map(clip.grid, num_clusters, clip.objects.shape, seed)
        counts = contingency(clusters, clip.objects, num_clusters)[:, ids]
        matched = match(counts)
        iou = matched_iou(counts, matched, background=0 if ids[0] == 0 else None)
        return float(iou.mean()), matched_ids(clusters, matched, ids)

    def _cluster_map(
        self, grid: Tensor, num_clusters: int, shape: Sequence[int], seed: int
    ) -> npt.NDArray[np.int64]:
        """Cluster of each pixel, [frames, height, width], from tokens [slices, rows, cols, dim]."""
        frames, height, width = shape
        size = (frames if self.time == "linear" else len(grid), height, width)
        if self.fit_on == "pixels":
            points = sampled_pixels(grid, size, num_clusters * _POINTS_PER_CLUSTER, seed)
        else:
            points = grid.flatten(0, 2)
        centres = fitted_centres(
            points,
            num_clusters,
            start=self.start,
            restarts=self.restarts,
            iterations=self.iterations,
            seed=seed,
        )
        maps = nearest_centres(grid, centres, size)
        return maps.repeat_interleave(frames // len(maps), dim=0).numpy()

    def _mean(self, name: str, values: Sequence[float], seed: int) -> Score:
        array = np.asarray(values)
        if self.average == "batches":
            array = array * _weights_by_batch(len(array), self.batch_clips)
        low, high = bootstrap_interval(array.tolist(), seed)
        return Score(name, float(array.mean()), "fraction", True, low, high, len(array))

    def _notes(self, objects: Sequence[int], samples: int) -> Iterator[str]:
        """Remarks, ``objects`` being how many each scored clip has."""
        if missing := samples - len(objects):
            yield f"{missing} of {samples} samples have no mask: left out"
        if len(objects) == 1:
            yield ONE_SEQUENCE
        if alone := objects.count(1):
            yield f"{alone} of {len(objects)} clips show one thing only, and score 1 by themselves"
        if self.pca_dims and self.pca_scope == "batch":
            yield (
                f"PCA was fitted to batches of {self.batch_clips} clips: the score of a clip "
                "depends on which others are in its batch"
            )


def _weights_by_batch(clips: int, batch_clips: int) -> npt.NDArray[np.float64]:
    """Weights [clips] with which a mean over clips is the mean over batches of their means."""
    batch = np.arange(clips) // batch_clips
    sizes = np.bincount(batch)
    weights: npt.NDArray[np.float64] = clips / (len(sizes) * sizes[batch])
    return weights


BENCHMARK = UnsupervisedVos
