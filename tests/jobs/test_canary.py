"""The canary notices weights that are not the committed ones, and nothing else."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.canary import (
    CANARY_CLIPS,
    Canary,
    canary_loss,
    check_canary,
    load_canary,
    store_canary,
)
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.masking import tube_masks
from sigma_pipeline.model.sigma import Sigma, build_sigma

CONFIG = ModelConfig(
    num_frames=4,
    frame_size_px=32,
    patch_size_px=8,
    encoder={"embed_dim": 16, "depth": 1, "num_heads": 2},
    decoder={"embed_dim": 16, "depth": 1, "num_heads": 2},
    target={"hidden_dims": (16,), "dim": 8},
    prototypes=6,
)


def clips(number: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(number)
    clip = torch.randint(0, 256, (number, 3, 4, 32, 32), dtype=torch.uint8, generator=draws)
    return clip, tube_masks(CONFIG, range(number))


@pytest.fixture
def canary() -> Canary:
    return Canary(*clips(3))


@pytest.fixture
def model() -> Sigma:
    return build_sigma(CONFIG, 0)


def test_the_first_canary_of_a_run_stays(storage: Storage) -> None:
    clip, mask = clips(12)

    store_canary(storage, "run", clip, mask)
    store_canary(storage, "run", *clips(2))

    kept = load_canary(storage, "run")
    assert torch.equal(kept.clip, clip[:CANARY_CLIPS])
    assert torch.equal(kept.mask, mask[:CANARY_CLIPS])


def test_the_loss_is_that_of_float32_even_inside_autocast(model: Sigma, canary: Canary) -> None:
    expected = canary_loss(model, canary)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert canary_loss(model, canary) == expected


def test_the_model_is_left_in_the_mode_it_was_in(model: Sigma, canary: Canary) -> None:
    model.train()
    canary_loss(model, canary)

    assert model.training


def test_the_committed_weights_pass(model: Sigma, canary: Canary) -> None:
    commit = SimpleNamespace(prefix="c", canary_loss=canary_loss(model, canary) * 1.0005)

    check_canary(model, canary, commit)


@pytest.mark.parametrize("recorded", [1.01, float("nan")])
def test_other_weights_do_not_pass(model: Sigma, canary: Canary, recorded: float) -> None:
    commit = SimpleNamespace(prefix="c", canary_loss=canary_loss(model, canary) * recorded)

    with pytest.raises(StageError, match="training stops here"):
        check_canary(model, canary, commit)
