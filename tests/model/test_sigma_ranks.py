"""Eight clips at once, on two gloo processes, and in four micro-batches, in float64."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.scores import CosineScores, joined_scores
from sigma_pipeline.model.sigma import Sigma, build_sigma
from sigma_pipeline.model.sinkhorn import Assignments, assign_both
from tests.model.conftest import constant


def gradients(model: Sigma) -> dict[str, Tensor]:
    found = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        found[f"gradient of {name}"] = parameter.grad
    return found


def at_once(config: ModelConfig, clip: Tensor, mask: Tensor) -> dict[str, Tensor]:
    model = build_sigma(config, seed=0).double()
    found: Assignments | None = None

    def assign(target: CosineScores, prediction: CosineScores) -> Assignments:
        nonlocal found
        found = assign_both(target, prediction, config)
        return found

    output = model(clip, mask, assign)
    output.loss.backward()
    assert found is not None
    branches = {"target": found.target, "prediction": found.prediction}
    return {**gradients(model), **branches, "loss": output.loss.detach()}


def in_micro_batches(
    config: ModelConfig, clip: Tensor, mask: Tensor, number: int
) -> dict[str, Tensor]:
    model = build_sigma(config, seed=0).double()
    parts = list(zip(clip.chunk(number), mask.chunk(number), strict=True))
    scored = zip(*(model.scores(*part) for part in parts), strict=True)
    found = assign_both(*(joined_scores(branch) for branch in scored), config)
    targets, predictions = found.target.chunk(number), found.prediction.chunk(number)
    losses = []
    for part, target, prediction in zip(parts, targets, predictions, strict=True):
        loss = model(*part, constant(target, prediction)).loss / number
        loss.backward()
        losses.append(loss.detach())
    branches = {"target": found.target, "prediction": found.prediction}
    return {**gradients(model), **branches, "loss": torch.stack(losses).sum()}


def on_two_ranks(
    config: ModelConfig, clip: Tensor, mask: Tensor, folder: Path
) -> dict[str, Tensor]:
    (folder / "config.json").write_text(config.model_dump_json())
    save_file({"clip": clip, "mask": mask}, folder / "batch.safetensors")
    program = [sys.executable, "-P", str(Path(__file__).with_name("gloo_rank.py"))]
    ranks = [subprocess.Popen([*program, str(rank), str(folder)]) for rank in range(2)]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    first, second = (load_file(folder / f"rank-{rank}.safetensors") for rank in range(2))
    branches = {name: torch.cat((first[name], second[name])) for name in ("target", "prediction")}
    return first | branches


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            got[name], tensor, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("assignment", ["hard", "soft"])
def test_micro_batches_have_the_loss_assignments_and_gradients_of_one_batch(
    config: ModelConfig, assignment: str, clip: Tensor, mask: Tensor
) -> None:
    config = config.model_copy(update={"assignment": assignment})

    expected = at_once(config, clip, mask)

    assert expected["loss"].dtype is torch.float64
    assert_same(in_micro_batches(config, clip, mask, 4), expected)


@pytest.mark.slow
@pytest.mark.parametrize("assignment", ["hard", "soft"])
def test_two_processes_have_the_loss_assignments_and_gradients_of_one(
    config: ModelConfig, assignment: str, clip: Tensor, mask: Tensor, tmp_path: Path
) -> None:
    config = config.model_copy(update={"assignment": assignment})

    got = on_two_ranks(config, clip, mask, tmp_path)

    assert_same(got, at_once(config, clip, mask))
