"""Targets: how pixels are normalized, in which order, and which tokens are looked at."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.masking import split_tokens
from sigma_pipeline.model.patches import cut_tubelets
from sigma_pipeline.model.targets import MlpTarget, PixelTarget, build_target, normalized_pixels
from sigma_pipeline.model.teachers import TeacherTarget


@pytest.fixture
def tubelets(clip: Tensor) -> Tensor:
    return cut_tubelets(clip, tubelet_frames=2, patch_size=8)


@pytest.fixture
def hidden(config: ModelConfig, mask: Tensor) -> Tensor:
    return split_tokens(config, mask)[1]


def test_every_channel_of_every_tubelet_has_mean_0_and_unbiased_deviation_1(
    tubelets: Tensor,
) -> None:
    values = normalized_pixels(tubelets, torch.float64).unflatten(-1, (-1, 3))

    torch.testing.assert_close(values.mean(dim=-2), torch.zeros(8, 64, 3).double())
    torch.testing.assert_close(
        values.std(dim=-2, correction=1), torch.ones(8, 64, 3).double(), rtol=1e-5, atol=0
    )


def test_a_channel_is_normalized_by_its_own_numbers() -> None:
    tubelet = torch.tensor([[[[0, 255], [7, 7], [10, 20]]]], dtype=torch.uint8)

    values = normalized_pixels(tubelet)

    half = 0.5**0.5
    expected = torch.tensor([[[-half, 0, -half, half, 0, half]]])  # voxels, then channels
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=0)


def test_a_flat_tubelet_becomes_zeros() -> None:
    flat = torch.full((1, 1, 3, 128), 200, dtype=torch.uint8)

    torch.testing.assert_close(normalized_pixels(flat), torch.zeros(1, 1, 384), rtol=0, atol=0.1)


def test_pixel_targets_are_those_of_the_hidden_tubelets(
    pixel_config: ModelConfig, tubelets: Tensor, hidden: Tensor
) -> None:
    features = PixelTarget(pixel_config)(tubelets, hidden)

    assert features.shape == (8, 48, 384)
    assert torch.equal(features[3], normalized_pixels(tubelets[3:4, hidden[3]])[0])


def test_the_mlp_projects_the_normalized_pixels_of_the_hidden_tubelets(
    config: ModelConfig, tubelets: Tensor, hidden: Tensor
) -> None:
    target = MlpTarget(config)

    features = target(tubelets, hidden)

    names = target.state_dict()
    assert list(names) == [f"{layer}.{part}" for layer in (0, 2, 4) for part in ("weight", "bias")]
    expected = normalized_pixels(tubelets[:, :, :, :])[torch.arange(8)[:, None], hidden]
    for layer in (0, 2):
        expected = F.gelu(expected @ names[f"{layer}.weight"].T + names[f"{layer}.bias"])
    expected = expected @ names["4.weight"].T + names["4.bias"]
    torch.testing.assert_close(features, expected)


@pytest.mark.parametrize(
    ("settings", "branch", "width"),
    [
        ({"target": {"dim": 128}}, MlpTarget, 128),
        ({"target": {"kind": "pixels"}, "objective": "l2"}, PixelTarget, 1536),
        ({"target": {"kind": "dino", "teacher": "dino_s"}}, TeacherTarget, 384),
        ({"target": {"kind": "dino", "teacher": "dinov3_b"}}, TeacherTarget, 768),
    ],
)
def test_a_target_is_built_by_its_name_and_knows_its_width(
    settings: dict[str, Any], branch: type[nn.Module], width: int
) -> None:
    target = build_target(ModelConfig(**settings))

    assert type(target) is branch
    assert target.out_dim == width
