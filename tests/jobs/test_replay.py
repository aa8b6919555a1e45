"""Clips tried again one by one: the first layer that goes wrong, or whose gradient does."""

import math
from collections.abc import Callable

import pytest
import torch

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.jobs.replay import Finding, try_clip
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import Sigma, build_sigma
from tests.tiny import TINY_MODEL

MakeBatches = Callable[[int], list[Batch]]


@pytest.fixture
def model() -> Sigma:
    return build_sigma(ModelConfig(**TINY_MODEL, drop_path=0.1), seed=0).train()


def test_the_first_layer_is_named_and_not_those_that_it_spoils(
    model: Sigma, make_batches: MakeBatches
) -> None:
    with torch.no_grad():
        model.encoder.blocks[1].mlp.fc1.weight[0, 0] = math.inf

    finding = try_clip(model, make_batches(1)[0], 3, "fp32")

    assert finding.layer == "encoder.blocks.1.mlp.fc1"
    assert str(finding) == "not finite first in the output of encoder.blocks.1.mlp.fc1"


def test_a_gradient_alone_is_named_by_its_parameter(
    model: Sigma, make_batches: MakeBatches
) -> None:
    model.mask_token.register_hook(lambda gradient: gradient * math.inf)

    finding = try_clip(model, make_batches(1)[0], 3, "fp32")

    assert (finding.layer, finding.gradients) == (None, ("mask_token",))
    assert not finding.is_finite
    assert "the gradient of mask_token is not finite" in str(finding)


@pytest.mark.parametrize("precision", ["fp32", "bf16_autocast"])
def test_what_is_finite_is_said_to_be_with_its_loss(
    model: Sigma, make_batches: MakeBatches, precision: str
) -> None:
    finding = try_clip(model, make_batches(1)[0], 3, precision)

    assert finding.is_finite
    assert str(finding) == f"finite, loss {finding.loss:.4g}"


def test_a_loss_of_finite_layers_is_blamed_itself() -> None:
    assert str(Finding(math.inf, None, ())) == "the loss itself is inf, all layers are finite"
