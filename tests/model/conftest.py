"""A model small enough for a test: 8 frames of 32 px, 4 slices of 16 patches."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.masking import tube_masks

SMALL: dict[str, Any] = {
    "num_frames": 8,
    "frame_size_px": 32,
    "patch_size_px": 8,
    "mask_ratio": 0.75,
    "encoder": {"embed_dim": 48, "depth": 2, "num_heads": 3},
    "decoder": {"embed_dim": 32, "depth": 1, "num_heads": 2},
    "target": {"hidden_dims": (64, 32), "dim": 16},
    "prototypes": 24,
}


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def config() -> ModelConfig:
    return ModelConfig(**SMALL)


@pytest.fixture
def soft_config() -> ModelConfig:
    return ModelConfig(**SMALL, assignment="soft")


@pytest.fixture
def pixel_config() -> ModelConfig:
    return ModelConfig(**{**SMALL, "target": {"kind": "pixels"}, "objective": "l2"})


@pytest.fixture
def clip() -> Tensor:
    """Eight clips of noise."""
    draws = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, (8, 3, 8, 32, 32), dtype=torch.uint8, generator=draws)


@pytest.fixture
def mask(config: ModelConfig) -> Tensor:
    return tube_masks(config, range(8))
