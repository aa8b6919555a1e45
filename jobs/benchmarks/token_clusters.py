"""Clusters of a clip's tokens, and the cluster of each of its pixels (protocols 6.2, 5 to 7).

Scaling, principal components and interpolation are affine maps, so that they may be done in any
order: here the fewest numbers are interpolated.
"""

import warnings
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Start = Literal["random", "spread"]
Size = tuple[int, int, int]
"""Frames, height, width."""

_CONSTANT = 1e-9  # relative; double precision leaves 1e-12, half precision tells 1e-4 apart


def principal_components(tokens: Tensor, dims: int) -> Tensor:
    """Tokens [..., dim], standardised and projected on the ``dims`` directions of most variance.

    As scikit-learn's ``StandardScaler`` and ``PCA``, without its randomized solver: exact, so that
    no seed comes in. Fewer dimensions than ``dims`` are kept as they are many.
    """
    from scipy.linalg import eigh  # half a second, which lists of benchmarks need not wait for

    points = tokens.flatten(0, -2).double()
    mean, deviation = points.mean(dim=0), points.std(dim=0, correction=0)
    is_constant = deviation <= _CONSTANT * mean.abs()
    points = (points - mean) / torch.where(is_constant, 1.0, deviation)
    last = points.shape[1] - 1
    covariance = (points.T @ points).numpy()
    _, directions = eigh(covariance, subset_by_index=[max(0, last + 1 - dims), last])
    projected = points @ torch.from_numpy(directions)
    return projected.float().reshape(*tokens.shape[:-1], -1)


def fitted_centres(
    points: Tensor, num_clusters: int, *, start: Start, restarts: int, iterations: int, seed: int
) -> Tensor:
    """Centres [at most num_clusters, dim] that k-means finds for ``points`` [points, dim].

    Args:
        points: at least one.
        num_clusters: fewer come out for fewer points.
        start: ``random`` points, or k-means++, which spreads them.
        restarts: the one with the least sum of squared distances wins.
        iterations: at most.
        seed: of the starts.
    """
    # Takes seconds to import, which tables of scores need not wait for.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    kmeans = KMeans(
        min(num_clusters, len(points)),
        init="random" if start == "random" else "k-means++",
        n_init=restarts,
        max_iter=iterations,
        random_state=seed,
    )
    # Several threads would add their partial sums up in whatever order they finish, and are slower
    # than one on as few points as these.
    with warnings.catch_warnings(), _threads().limit(limits=1, user_api="openmp"):
        # A collapsed encoder has fewer distinct tokens than clusters: a result, no fault.
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans.fit(points.numpy())
    return torch.from_numpy(kmeans.cluster_centers_)


def nearest_centres(grid: Tensor, centres: Tensor, size: Size) -> Tensor:
    """Index [frames, height, width] of the centre nearest to each linearly up-sampled feature.

    The nearest centre maximises ``<feature, centre> - |centre|^2 / 2``, which is affine in the
    feature: up-sampling this one number per centre instead of the feature is exact, and as much
    cheaper as there are fewer centres than dimensions.

    Args:
        grid: features [slices, rows, columns, dim].
        centres: [centres, dim].
        size: of the map; as many frames as there are slices leave time as it is.
    """
    # What all tokens have in common decides nothing, but its squares would drown a collapsed
    # encoder's differences in rounding.
    common = grid.mean(dim=(0, 1, 2))
    grid, centres = grid - common, centres - common
    affinity = grid @ centres.T - centres.square().sum(dim=1) / 2
    affinity = affinity.permute(3, 0, 1, 2)
    if size[0] == len(grid):
        affinity = F.interpolate(affinity.transpose(0, 1), size=size[1:], mode="bilinear")
        return affinity.max(dim=1).indices  # ten times faster than argmax along this axis
    return F.interpolate(affinity[None], size=size, mode="trilinear")[0].max(dim=0).indices


def sampled_pixels(grid: Tensor, size: Size, limit: int, seed: int) -> Tensor:
    """Features [points, dim] of ``grid``, up-sampled to ``size``, at ``limit`` random pixels."""
    frames, height, width = size
    total = frames * height * width
    draws = np.random.default_rng(seed).choice(total, min(limit, total), replace=False)
    pixels = torch.from_numpy(np.sort(draws))
    places = (pixels % width, pixels // width % height, pixels // (width * height))
    where = [
        (2 * place + 1) / length - 1
        for place, length in zip(places, (width, height, frames), strict=True)
    ]
    sampled = F.grid_sample(
        grid.permute(3, 0, 1, 2)[None],
        torch.stack(where, dim=-1)[None, None, None].to(grid.dtype),
        padding_mode="border",
        align_corners=False,
    )
    return sampled[0, :, 0, 0].T


@cache
def _threads() -> "ThreadpoolController":
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
