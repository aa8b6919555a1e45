"""A model small enough for a test: 8 frames of 32 px, 4 slices of 16 patches."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.masking import tube_masks
from sigma_pipeline.model.sigma import AssignFunction, build_sigma
from sigma_pipeline.model.sinkhorn import Assignments
from tests.model import teacher_files

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


@pytest.fixture
def state(config: ModelConfig) -> dict[str, Tensor]:
    """Weights of the small model."""
    return dict(build_sigma(config, seed=1).state_dict())


@pytest.fixture
def classifier(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a fine-tuned model of five classes, under the names of the official release."""
    draws = torch.Generator().manual_seed(4)
    encoder = {
        name.removeprefix("encoder."): tensor
        for name, tensor in state.items()
        if name.startswith("encoder.") and not name.startswith("encoder.norm.")
    }
    dim = len(state["encoder.norm.bias"])
    return encoder | {
        "fc_norm.weight": torch.rand(dim, generator=draws) + 0.5,
        "fc_norm.bias": torch.rand(dim, generator=draws),
        "head.weight": torch.randn(5, dim, generator=draws),
        "head.bias": torch.randn(5, generator=draws),
    }


@pytest.fixture
def release(tmp_path: Path) -> Callable[[Mapping[str, Tensor]], Path]:
    """Writes weights into a file with all that the official release keeps beside them."""

    def write(state: Mapping[str, Tensor]) -> Path:
        moments = {
            number: {"step": 7, "exp_avg": tensor * 0, "exp_avg_sq": tensor * 0}
            for number, tensor in enumerate(state.values())
        }
        groups = [{"lr": 1e-4, "betas": (0.9, 0.95), "lr_scale": 1.0, "params": list(moments)}]
        content = {
            "model": dict(state),
            "optimizer": {"state": moments, "param_groups": groups},
            "epoch": 799,
            "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 4},
            "args": Namespace(model="pretrain_videomae_base_patch16_224", window_size=(8, 14, 14)),
        }
        torch.save(content, tmp_path / "official.pth")
        return tmp_path / "official.pth"

    return write


@pytest.fixture
def small_teachers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of teachers stand for networks that a test can draw."""
    teacher_files.use_small_shapes(monkeypatch)


@pytest.fixture
def clips() -> Tensor:
    """Three clips of noise, whose deviation differs from frame to frame."""
    draws = torch.Generator().manual_seed(7)
    noise = torch.randint(0, 256, (3, 3, 6, 112, 112), dtype=torch.uint8, generator=draws)
    return noise // torch.tensor([1, 2, 3, 4, 5, 6], dtype=torch.uint8)[:, None, None]


@pytest.fixture
def dino(tmp_path: Path, small_teachers: None) -> ModelConfig:
    """A model of those clips, with a frozen teacher in a file of its own format."""
    path = tmp_path / "dino_deitsmall16_pretrain.pth"
    state = teacher_files.original_state(teacher_files.SMALL["dino_s"], side=7)
    torch.save(state, path)
    return teacher_files.config_of("dino_s", path)


def constant(target: Tensor, prediction: Tensor) -> AssignFunction:
    """Assigns what it is told, whatever the scores."""
    return lambda target_scores, prediction_scores: Assignments(target, prediction, {})
