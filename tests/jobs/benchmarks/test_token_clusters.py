"""Clusters of tokens: exact short cuts against the long way round, and scikit-learn."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from sigma_pipeline.jobs.benchmarks.token_clusters import (
    fitted_centres,
    nearest_centres,
    principal_components,
    sampled_pixels,
)


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def upsampled(grid: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
    """Features [frames, height, width, dim]."""
    channels_first = grid.permute(3, 0, 1, 2)[None]
    return F.interpolate(channels_first, size=size, mode="trilinear")[0].permute(1, 2, 3, 0)


@pytest.mark.parametrize("frames", [2, 4])
def test_pixels_go_to_the_centre_nearest_to_their_upsampled_feature(frames: int) -> None:
    grid, centres = tokens(2, 3, 3, 5), tokens(4, 5)

    maps = nearest_centres(grid, centres, (frames, 9, 9))

    distances = torch.cdist(upsampled(grid, (frames, 9, 9)).flatten(0, 2), centres)
    assert torch.equal(maps.flatten(), distances.argmin(dim=1))


def test_pixels_of_a_collapsed_encoder_go_to_their_nearest_centre_all_the_same() -> None:
    grid = 10 + 1e-4 * tokens(2, 4, 4, 64)
    centres = grid.flatten(0, 2)[::5]

    maps = nearest_centres(grid, centres, (2, 12, 12))

    exact = torch.cdist(upsampled(grid.double(), (2, 12, 12)).flatten(0, 2), centres.double())
    assert (maps.flatten() == exact.argmin(dim=1)).float().mean() > 0.99


@pytest.mark.parametrize("frames", [2, 6])
def test_sampled_pixels_are_the_upsampled_features(frames: int) -> None:
    grid = tokens(2, 3, 3, 5)

    everything = sampled_pixels(grid, (frames, 7, 9), limit=10_000, seed=0)

    torch.testing.assert_close(everything, upsampled(grid, (frames, 7, 9)).flatten(0, 2))
    assert len(sampled_pixels(grid, (frames, 7, 9), limit=20, seed=0)) == 20


@pytest.mark.parametrize("dims", [3, 50])
def test_principal_components_are_those_of_scikit_learn(dims: int) -> None:
    grid = tokens(2, 4, 4, 6) @ tokens(6, 6) + 5

    reduced = principal_components(grid, dims)

    points = StandardScaler().fit_transform(grid.flatten(0, 2).numpy())
    expected = torch.from_numpy(PCA(min(dims, 6)).fit_transform(points))
    assert reduced.shape == (2, 4, 4, min(dims, 6))
    # Directions may point the other way, and come in another order: distances stay.
    torch.testing.assert_close(torch.pdist(reduced.flatten(0, 2)), torch.pdist(expected))


def test_dimensions_that_never_change_say_nothing() -> None:
    grid = torch.cat([tokens(2, 3, 3, 4), torch.full((2, 3, 3, 2), 0.1)], dim=-1)

    constant = principal_components(torch.full((2, 3, 3, 4), 0.1), 2)

    torch.testing.assert_close(
        torch.pdist(principal_components(grid, 6).flatten(0, 2)),
        torch.pdist(principal_components(grid[..., :4], 4).flatten(0, 2)),
    )
    assert not constant.any()


def test_fewer_points_than_clusters_are_as_many_clusters() -> None:
    settings = {"restarts": 1, "iterations": 5, "seed": 0}

    centres = fitted_centres(tokens(3, 4), 10, start="random", **settings)

    assert centres.shape == (3, 4)
