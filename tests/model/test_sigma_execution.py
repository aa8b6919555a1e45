"""The objective computed in other ways: recomputed, compiled, in half precision."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import Sigma, build_sigma


def gradients(model: Sigma) -> Iterator[Tensor]:
    for parameter in model.parameters():
        assert parameter.grad is not None
        yield parameter.grad


def test_bfloat16_autocast_stays_close_to_float32(
    soft_config: ModelConfig, clip: Tensor, mask: Tensor
) -> None:
    model = build_sigma(soft_config, seed=0)

    with torch.autocast("cpu", torch.bfloat16):
        output = model(clip, mask)

    assert output.loss.dtype is torch.float32
    torch.testing.assert_close(output.loss, model(clip, mask).loss, rtol=2e-2, atol=0)


def test_activation_checkpointing_changes_no_gradient(
    config: ModelConfig, clip: Tensor, mask: Tensor
) -> None:
    thrifty = ModelConfig.model_validate(
        config.model_dump() | {"execution": {"activation_checkpointing": True}}
    )
    models = build_sigma(config, seed=0), build_sigma(thrifty, seed=0)

    losses = [model(clip, mask).loss for model in models]
    for loss in losses:
        loss.backward()

    assert torch.equal(*losses)
    assert all(torch.equal(*pair) for pair in zip(*map(gradients, models), strict=True))


def test_compiled_blocks_keep_the_names_of_their_weights(config: ModelConfig) -> None:
    compiled = ModelConfig.model_validate(config.model_dump() | {"execution": {"compile": True}})

    models = build_sigma(config, seed=0), build_sigma(compiled, seed=0)

    names = [list(model.state_dict()) for model in models]
    assert names[0] == names[1]
    blocks = [*models[1].encoder.blocks, *models[1].decoder.blocks]
    assert all(block._compiled_call_impl is not None for block in blocks)


@pytest.mark.slow
@pytest.mark.skipif(which("g++") is None, reason="torch.compile needs a C++ compiler on processors")
def test_compiled_blocks_give_the_same_loss_and_gradients() -> None:
    program = [sys.executable, "-P", str(Path(__file__).with_name("compiled.py"))]

    done = subprocess.run(program, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr


def test_gradients_in_bfloat16_autocast_point_where_those_of_float32_do(
    soft_config: ModelConfig, clip: Tensor, mask: Tensor
) -> None:
    models = build_sigma(soft_config, seed=0), build_sigma(soft_config, seed=0)

    models[0](clip, mask).loss.backward()
    with torch.autocast("cpu", torch.bfloat16):
        loss = models[1](clip, mask).loss
    loss.backward()

    exact, rounded = (torch.cat([g.flatten() for g in gradients(each)]) for each in models)
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.99
    assert 0.95 < rounded.norm() / exact.norm() < 1.05
