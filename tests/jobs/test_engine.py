"""Every ZeRO stage in every precision takes the steps of plain PyTorch, here on one rank.

Weights and moments are read back from commits, so what is compared went through the store.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.config import TrainConfig
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.engine import deepspeed_config
from sigma_pipeline.jobs.masters import whole_weights
from sigma_pipeline.jobs.sigma_objective import SigmaObjective
from sigma_pipeline.jobs.train_step import TrainStep
from tests.jobs.cases import NUM_PROTOTYPES, make_case
from tests.jobs.step_rank import (
    Seen,
    committed,
    plain_steps,
    share,
    start_engine,
    take_steps,
)

STAGES = (1, 2, 3)
PRECISIONS = ("fp32", "bf16_autocast", "bf16")
ALL = list(product(STAGES, PRECISIONS))
EACH_ONCE = [(1, "bf16"), (2, "bf16_autocast"), (3, "fp32")]
"""DeepSpeed has one optimizer for the first of these, one for the second, one for stage 3."""


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(got[name], tensor)] == []


@pytest.mark.parametrize(("stage", "precision"), ALL)
def test_steps_are_those_of_plain_pytorch_bit_for_bit(
    one_rank: RankContext, tmp_path: Path, stage: int, precision: str
) -> None:
    case = make_case("run", stage, precision, steps=3)

    seen = take_steps(case, one_rank, tmp_path)

    losses, state = plain_steps(case, one_rank)
    assert seen.losses == losses
    assert losses[-1] < losses[0]
    assert_equal(committed("run", tmp_path), state)
    assert seen.master_norms == pytest.approx([1] * NUM_PROTOTYPES, abs=2e-7)
    assert seen.module_norms == pytest.approx([1] * NUM_PROTOTYPES, abs=4e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_run_goes_on_at_another_stage_as_if_undisturbed(
    one_rank: RankContext, tmp_path: Path, precision: str
) -> None:
    before = None
    for number, stage in enumerate((1, 2, 3, 1)):
        case = make_case(f"run-{number}", stage, precision, steps=1, after=before)
        take_steps(case, one_rank, tmp_path)
        before = case.name

    _, undisturbed = plain_steps(replace(case, steps=4), one_rank)
    assert_equal(committed("run-3", tmp_path), undisturbed)


GRADIENT_TOLERANCE = {"fp32": 1e-5, "bf16_autocast": 0.02, "bf16": 0.06}
"""Of the largest one in a tensor. Micro-batches are rounded one by one in half precision."""


@pytest.mark.parametrize(("stage", "precision"), ALL)
def test_micro_batches_give_the_gradients_of_the_whole_batch(
    one_rank: RankContext, tmp_path: Path, stage: int, precision: str
) -> None:
    case = make_case("run", stage, precision, micro_batch_clips=2, steps=1)

    seen = take_steps(case, one_rank, tmp_path)

    losses, state = plain_steps(make_case("whole", stage, precision, steps=1), one_rank)
    assert seen.losses == pytest.approx(losses, rel=1e-6)
    assert_gradients_near(committed("run", tmp_path), state, GRADIENT_TOLERANCE[precision])


def assert_gradients_near(
    got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float
) -> None:
    """After one step the first moment is the gradient, times what ``betas`` leave of it."""
    for name, gradient in expected.items():
        if name.startswith("exp_avg/"):
            scale = float(gradient.abs().max())
            torch.testing.assert_close(got[name], gradient, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(("stage", "precision"), EACH_ONCE)
def test_gradients_are_clipped_by_their_norm_over_all_parameters(
    one_rank: RankContext, tmp_path: Path, stage: int, precision: str
) -> None:
    case = make_case("run", stage, precision, gradient_clip_norm=0.5, steps=1)

    seen = take_steps(case, one_rank, tmp_path)

    _, state = plain_steps(case, one_rank)
    _, unclipped = plain_steps(make_case("whole", stage, precision, steps=1), one_rank)
    norm = seen.gradient_norms[0]
    assert norm > 5
    assert_gradients_near(committed("run", tmp_path), state, 2e-6)
    clipped = {name: gradient * 0.5 / norm for name, gradient in unclipped.items()}
    assert_gradients_near(committed("run", tmp_path), clipped, 1e-5)


@pytest.mark.parametrize("precision", ["bf16_autocast", "bf16"])
def test_half_precision_stays_near_float32(one_rank: RankContext, precision: str) -> None:
    exact, _ = plain_steps(make_case("run", 1, "fp32", steps=4), one_rank)
    losses, _ = plain_steps(make_case("run", 1, precision, steps=4), one_rank)

    assert losses == pytest.approx(exact, rel=0.01)
    assert losses != exact


@pytest.mark.parametrize(("stage", "precision"), EACH_ONCE)
def test_the_same_seed_gives_the_same_result_twice(
    one_rank: RankContext, tmp_path: Path, stage: int, precision: str
) -> None:
    runs: list[tuple[Seen, dict[str, Tensor]]] = []
    for name in ("one", "two"):
        case = make_case(name, stage, precision, micro_batch_clips=4, assignment="hard")
        runs.append((take_steps(case, one_rank, tmp_path), committed(name, tmp_path)))

    assert runs[0][0] == runs[1][0]
    assert_equal(runs[0][1], runs[1][1])


@pytest.mark.parametrize(("stage", "precision"), ALL)
def test_a_gradient_that_is_not_finite_changes_nothing(
    one_rank: RankContext, tmp_path: Path, stage: int, precision: str
) -> None:
    case = make_case("run", stage, precision, steps=1)
    engine = start_engine(case, one_rank, open_storage(str(tmp_path)))
    step = TrainStep(engine, one_rank, SigmaObjective(case.model, 0))
    before = masters(engine)
    handle = engine.module.encoder_to_decoder.register_full_backward_pre_hook(overflow)

    bad = step(share(case.train, one_rank), case.rate)
    handle.remove()
    after_bad = masters(engine)
    good = step(share(case.train, one_rank), case.rate)

    assert (bad.is_applied, good.is_applied) == (False, True)
    assert_equal(after_bad, before)
    _, undisturbed = plain_steps(case, one_rank)
    assert_equal(masters(engine), {name: undisturbed[name] for name in before})


def masters(engine: Any) -> dict[str, Tensor]:
    """A copy of all weights of an engine."""
    return {name: value.clone() for name, value in whole_weights(engine)}


def overflow(_module: Any, gradients: tuple[Tensor]) -> tuple[Tensor]:
    return (gradients[0] * torch.inf,)


def test_stage_0_is_refused_with_its_reason() -> None:
    with pytest.raises(ValidationError, match="zero_stage=0 takes a hidden first step in bf16"):
        TrainConfig(dataset="d", zero_stage=0)


def test_buckets_are_no_larger_than_the_model() -> None:
    train = TrainConfig(dataset="d", global_batch_clips=64, micro_batch_clips=8)

    config = deepspeed_config(train, 4, num_elements=1001, is_cuda=True)

    zero = config["zero_optimization"]
    assert (zero["stage"], zero["overlap_comm"]) == (1, True)
    assert zero["reduce_bucket_size"] == zero["allgather_bucket_size"] == 1002
    assert config["gradient_accumulation_steps"] == 4
    assert config["gradient_clipping"] == 0
