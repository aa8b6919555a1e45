"""The canary notices weights that are not the committed ones, and nothing else."""

from types import SimpleNamespace

import pytest
import torch

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import canary as canary_module
from sigma_pipeline.jobs.canary import (
    CANARY_CLIPS,
    Canary,
    canary_loss,
    check_canary,
    load_canary,
    store_canary,
)
from sigma_pipeline.jobs.sigma_objective import SigmaObjective
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


OBJECTIVE = SigmaObjective(CONFIG, 0)


def clips(number: int) -> Canary:
    draws = torch.Generator().manual_seed(number)
    clip = torch.randint(0, 256, (number, 3, 4, 32, 32), dtype=torch.uint8, generator=draws)
    return {"clip": clip, "mask": tube_masks(CONFIG, range(number))}


@pytest.fixture
def canary() -> Canary:
    return clips(3)


@pytest.fixture
def model() -> Sigma:
    return build_sigma(CONFIG, 0)


def test_the_first_canary_of_a_run_stays(storage: Storage) -> None:
    first = clips(12)

    store_canary(storage, "run", first)
    store_canary(storage, "run", clips(2))

    kept = load_canary(storage, "run")
    assert kept.keys() == first.keys()
    assert all(torch.equal(kept[name], first[name][:CANARY_CLIPS]) for name in first)


def test_the_loss_is_that_of_float32_even_inside_autocast(model: Sigma, canary: Canary) -> None:
    expected = canary_loss(OBJECTIVE, model, canary)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert canary_loss(OBJECTIVE, model, canary) == expected


def test_the_model_is_left_in_the_mode_it_was_in(model: Sigma, canary: Canary) -> None:
    model.train()
    canary_loss(OBJECTIVE, model, canary)

    assert model.training


def test_the_committed_weights_pass(model: Sigma, canary: Canary) -> None:
    commit = SimpleNamespace(prefix="c", canary_loss=canary_loss(OBJECTIVE, model, canary) * 1.0005)

    check_canary(OBJECTIVE, model, canary, commit)


@pytest.mark.parametrize("recorded", [1.01, float("nan")])
def test_other_weights_do_not_pass(model: Sigma, canary: Canary, recorded: float) -> None:
    commit = SimpleNamespace(
        prefix="c", canary_loss=canary_loss(OBJECTIVE, model, canary) * recorded
    )

    with pytest.raises(StageError, match="training stops here"):
        check_canary(OBJECTIVE, model, canary, commit)


@pytest.mark.parametrize(("recorded", "found"), [(2e-6, 5e-6), (0.0, 9e-6), (1.0, 1.0009)])
def test_what_rounding_makes_of_a_loss_near_zero_passes(
    model: Sigma, monkeypatch: pytest.MonkeyPatch, recorded: float, found: float
) -> None:
    monkeypatch.setattr(canary_module, "canary_loss", lambda *_: found)
    commit = SimpleNamespace(prefix="c", canary_loss=recorded)

    check_canary(OBJECTIVE, model, {}, commit)


@pytest.mark.parametrize(("recorded", "found"), [(2e-6, 0.1), (0.0, 2e-5), (1.0, 1.0011)])
def test_other_weights_are_told_from_those_that_know_all_by_heart(
    model: Sigma, monkeypatch: pytest.MonkeyPatch, recorded: float, found: float
) -> None:
    monkeypatch.setattr(canary_module, "canary_loss", lambda *_: found)
    commit = SimpleNamespace(prefix="c", canary_loss=recorded)

    with pytest.raises(StageError, match="allowed: "):
        check_canary(OBJECTIVE, model, {}, commit)
