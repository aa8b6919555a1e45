"""Stochastic depth: how often, from what, and what it does to a model."""

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import build_sigma
from sigma_pipeline.model.stochastic_depth import branch_scales, drop_rates, dropout_scales
from tests.model.conftest import SMALL

DEEP = ModelConfig(
    **{**SMALL, "encoder": {"embed_dim": 48, "depth": 5, "num_heads": 3}}, drop_path=0.4
)


def test_rates_grow_linearly_from_zero_to_the_configured_one() -> None:
    assert drop_rates(DEEP).tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_nothing_is_drawn_when_it_is_off(config: ModelConfig) -> None:
    assert branch_scales(config, [1, 2]) is None


def test_halves_are_left_out_as_often_as_configured_and_keep_the_mean() -> None:
    scales = branch_scales(DEEP, range(20_000))

    assert scales is not None
    dropped = (scales == 0).double().mean(dim=0)
    expected = drop_rates(DEEP)[:, None].expand(5, 2)
    torch.testing.assert_close(dropped, expected, rtol=0, atol=0.01)
    torch.testing.assert_close(scales.mean(dim=0), torch.ones(5, 2), rtol=0, atol=0.02)


def test_a_clip_is_treated_by_its_own_seed_alone() -> None:
    together, alone = branch_scales(DEEP, [5, 2**63, 9]), branch_scales(DEEP, [9])

    assert together is not None
    assert alone is not None
    assert torch.equal(together[2:], alone)


def test_training_needs_the_draws_and_evaluation_does_not(clip: Tensor, mask: Tensor) -> None:
    model = build_sigma(DEEP, seed=0)

    with pytest.raises(ValueError, match=r"drop_path=0\.4 needs branch_scales in training"):
        model(clip, mask)

    scales = branch_scales(DEEP, range(8))
    trained = model(clip, mask, None, scales).loss
    assert not torch.equal(trained, model.eval()(clip, mask).loss)
    assert torch.equal(trained, model.train()(clip, mask, None, scales).loss)


def test_dropout_leaves_features_out_as_often_as_asked_and_keeps_the_mean() -> None:
    scales = dropout_scales(100, 0.3, range(1000))

    assert scales is not None
    assert (scales == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert scales.mean().item() == pytest.approx(1, abs=0.02)
    assert dropout_scales(100, 0.0, range(1000)) is None


def test_dropout_of_a_clip_goes_by_its_own_seed_alone() -> None:
    together, alone = dropout_scales(8, 0.5, [5, 9]), dropout_scales(8, 0.5, [9])

    assert together is not None
    assert alone is not None
    assert torch.equal(together[1:], alone)
