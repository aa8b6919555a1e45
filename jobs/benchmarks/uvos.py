"""Unsupervised video object segmentation by clustering tokens (protocols, section 6).

Per clip, over all its frames: k-means with as many clusters as the clip has objects (background is
one), matched one to one; and over-clustering with 10 clusters, each given to the object it lies in.
SIGMA's own code for this was not published; what had to be chosen here, and is part of the
version, is said at the settings.
"""

import warnings
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import BaseModel, PositiveInt
from torch import Tensor

from sigma_pipeline.jobs.benchmarks.benchmark import VOID_ID, FeatureSet, Needs, Result, Score
from sigma_pipeline.jobs.benchmarks.intervals import bootstrap_interval
from sigma_pipeline.jobs.benchmarks.matching import (
    contingency,
    hungarian_match,
    many_to_one_match,
    matched_iou,
)

_POINTS_PER_CLUSTER = 256  # faiss fits on no more points than this, and so did TimeT


class UnsupervisedVos(BaseModel, frozen=True, extra="forbid"):
    """Mean IoU with background, of clusters of the encoder's last tokens after its final norm.

    Chosen: tokens as they come (no standardising, no PCA); each clip for itself; a time slice's
    map is repeated for all its frames; void pixels are not scored.
    """

    name: ClassVar[str] = "uvos"
    version: ClassVar[int] = 1

    overclusters: PositiveInt = 10
    fit_on: Literal["tokens", "pixels"] = "tokens"
    """What the centres are fitted to: the token grid, or (as TimeT) features up-sampled to pixels,
    at most 256 per cluster. Either way a pixel belongs to the centre nearest to its bilinearly
    up-sampled feature."""
    restarts: PositiveInt = 5
    iterations: PositiveInt = 50

    @property
    def needs(self) -> Needs:
        """Object masks, and a feature of each token."""
        return Needs(masks=True, tokens=True)

    def scores(self, train: FeatureSet | None, test: FeatureSet, seed: int) -> Result:
        """``miou`` (Hungarian) and ``miou_over`` (over-clustered), means over clips."""
        del train
        if test.tokens is None or test.masks is None:
            raise ValueError("this benchmark needs tokens and masks")
        rows = [
            (i, *self._clip_scores(test.tokens[i], test.masks[i], seed))
            for i in range(test.num_samples)
            if (test.masks[i] != VOID_ID).any()
        ]
        if not rows:
            raise ValueError("no sample has an annotated pixel")
        missing = test.num_samples - len(rows)
        notes = (
            (f"{missing} of {test.num_samples} samples have no mask: left out",) if missing else ()
        )
        kept, miou, miou_over, objects = (list(column) for column in zip(*rows, strict=True))
        outcomes = {
            "key": [test.keys[i] for i in kept],
            "miou": miou,
            "miou_over": miou_over,
            "objects": objects,
        }
        scores = (_mean("miou", miou, seed), _mean("miou_over", miou_over, seed))
        return Result(scores, outcomes, notes)

    def _clip_scores(
        self, tokens: npt.NDArray[np.float16], masks: npt.NDArray[np.uint8], seed: int
    ) -> tuple[float, float, int]:
        """Both scores of one clip, and how many objects it has, background among them."""
        scored = masks != VOID_ID
        ids, objects = np.unique(masks[scored], return_inverse=True)
        background = 0 if ids[0] == 0 else None
        grid = torch.from_numpy(tokens.astype(np.float32))

        def counts(num_clusters: int) -> npt.NDArray[np.int64]:
            clusters = self._cluster_maps(grid, num_clusters, masks.shape, seed)
            return contingency(clusters[scored], objects, num_clusters)

        own, over = counts(len(ids)), counts(self.overclusters)
        miou = matched_iou(own, hungarian_match(own), background).mean()
        miou_over = matched_iou(over, many_to_one_match(over), background).mean()
        return float(miou), float(miou_over), len(ids)

    def _cluster_maps(
        self, grid: Tensor, num_clusters: int, shape: tuple[int, ...], seed: int
    ) -> npt.NDArray[np.int64]:
        """Cluster of each pixel, [frames, height, width], from tokens [slices, rows, cols, dim]."""
        points = grid.flatten(0, 2)
        if self.fit_on == "pixels":
            points = sampled_pixels(grid, shape[1:], num_clusters * _POINTS_PER_CLUSTER, seed)
        maps = nearest_centres(grid, self._centres(points, num_clusters, seed), shape[1:])
        return maps.repeat_interleave(shape[0] // len(grid), dim=0).numpy()

    def _centres(self, points: Tensor, num_clusters: int, seed: int) -> Tensor:
        # Takes seconds to import, which tables of scores need not wait for.
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        kmeans = KMeans(
            min(num_clusters, len(points)),
            n_init=self.restarts,
            max_iter=self.iterations,
            random_state=seed,
        )
        with warnings.catch_warnings():
            # A collapsed encoder has fewer distinct tokens than clusters: a result, no fault.
            warnings.simplefilter("ignore", ConvergenceWarning)
            kmeans.fit(points.numpy())
        return torch.from_numpy(kmeans.cluster_centers_)


def nearest_centres(grid: Tensor, centres: Tensor, size: tuple[int, ...]) -> Tensor:
    """Index of the centre nearest to each bilinearly up-sampled feature: [slices, height, width].

    The nearest centre maximises ``<feature, centre> - |centre|^2 / 2``, which is affine in the
    feature, and so commutes with interpolation: up-sampling this one number per centre instead of
    the feature is exact, and as much cheaper as there are fewer centres than dimensions.
    """
    affinity = grid @ centres.T - centres.square().sum(dim=1) / 2
    affinity = affinity.permute(0, 3, 1, 2)
    return F.interpolate(affinity, size=size, mode="bilinear").argmax(dim=1)


def sampled_pixels(grid: Tensor, size: tuple[int, ...], limit: int, seed: int) -> Tensor:
    """Features [points, dim], up-sampled bilinearly to ``size``, at ``limit`` random pixels."""
    slices, dim = grid.shape[0], grid.shape[-1]
    height, width = size
    total = slices * height * width
    generator = np.random.default_rng(seed)
    flat = torch.from_numpy(np.sort(generator.permutation(total)[: min(limit, total)]))
    rows, columns = flat // width % height, flat % width
    where = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    features = torch.empty(len(flat), dim)
    for index in range(slices):
        here = flat // (height * width) == index
        sampled = F.grid_sample(
            grid[index].permute(2, 0, 1)[None],
            where[here][None, None].to(grid.dtype),
            padding_mode="border",
            align_corners=False,
        )
        features[here] = sampled[0, :, 0].T
    return features


def _mean(name: str, values: list[float], seed: int) -> Score:
    low, high = bootstrap_interval(values, seed)
    return Score(name, float(np.mean(values)), "fraction", True, low, high, len(values))
