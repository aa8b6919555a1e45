"""One step: the same science however a global batch is cut, and nothing that is not finite."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.engine import build_engine
from sigma_pipeline.jobs.sigma_objective import SigmaObjective, batch_masks
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_step import TrainStep
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import Sigma, build_sigma
from tests.model.teacher_files import SMALL, original_state, target, use_small_shapes

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of DeepSpeed's, from torch 2.13

MakeRequest = Callable[..., TrainRequest]
MakeBatches = Callable[[int], list[Batch]]
RATE = 3e-3


def start(request: TrainRequest, context: RankContext) -> tuple[Any, TrainStep]:
    """An engine around the untrained model, and its step."""
    train = request.train
    accumulation_steps = train.global_batch_clips // train.micro_batch_clips
    model = build_sigma(request.model, request.seed)
    engine = build_engine(model, train, accumulation_steps, context.device)
    return engine, TrainStep(engine, context, SigmaObjective(request.model, request.seed))


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("assignment", ["soft", "hard"])
@pytest.mark.parametrize("micro_batch_clips", [4, 2])
def test_accumulation_does_not_change_a_step(
    one_rank: RankContext,
    make_request: MakeRequest,
    make_batches: MakeBatches,
    assignment: str,
    micro_batch_clips: int,
) -> None:
    outcomes, norms = [], []
    for size in (8, micro_batch_clips):
        request = make_request(model={"assignment": assignment}, micro_batch_clips=size)
        engine, take_step = start(request, one_rank)
        outcome = take_step(make_batches(size), RATE)
        outcomes.append(weights(engine.module))
        norms.append((float(outcome.numbers["loss"]), outcome.gradient_norm))

    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    for name, tensor in outcomes[0].items():
        # AdamW's first step is the sign of the gradient: rounding shows where that is near 0.
        torch.testing.assert_close(outcomes[1][name], tensor, rtol=0, atol=0.05 * RATE)


def test_balancing_each_micro_batch_alone_is_another_science(
    one_rank: RankContext, make_request: MakeRequest, make_batches: MakeBatches
) -> None:
    losses = []
    for scope in ("global_batch", "micro_batch"):
        request = make_request(
            model={"assignment": "soft", "sinkhorn": {"scope": scope}}, micro_batch_clips=2
        )
        _, take_step = start(request, one_rank)
        losses.append(float(take_step(make_batches(2), RATE).numbers["loss"]))

    assert abs(losses[0] - losses[1]) > 1e-4


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Settings of a model with a small frozen teacher."""
    use_small_shapes(monkeypatch)
    path = tmp_path / "dino.pth"
    torch.save(original_state(SMALL["dino_s"], side=2), path)
    return {"target": target(path).model_dump()}


@pytest.mark.parametrize("micro_batch_clips", [8, 2])
def test_a_frozen_teacher_sees_each_clip_once_per_step(
    one_rank: RankContext,
    make_request: MakeRequest,
    make_batches: MakeBatches,
    taught: dict[str, Any],
    micro_batch_clips: int,
) -> None:
    request = make_request(model=taught, micro_batch_clips=micro_batch_clips)
    engine, take_step = start(request, one_rank)
    seen: list[int] = []
    network = engine.module.target.teacher.network
    network.register_forward_pre_hook(lambda _, frames: seen.append(len(frames[0])))

    take_step(make_batches(micro_batch_clips), RATE)

    assert seen == [micro_batch_clips * 2] * (8 // micro_batch_clips)  # frames of two slices


@pytest.mark.parametrize(
    ("stage", "precision", "assignment"),
    [(1, "fp32", "hard"), (3, "bf16_autocast", "soft"), (2, "bf16", "hard")],
)
def test_keeping_what_the_teacher_saw_changes_no_number(
    one_rank: RankContext,
    make_request: MakeRequest,
    make_batches: MakeBatches,
    taught: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    stage: int,
    precision: str,
    assignment: str,
) -> None:
    request = make_request(
        model=taught | {"assignment": assignment},
        **{"micro_batch_clips": 2, "zero_stage": stage, "precision": precision},
    )
    outcomes = []
    for is_kept in (True, False):
        if not is_kept:
            monkeypatch.setattr(Sigma, "frozen_features", lambda *_: None)
        engine, take_step = start(request, one_rank)
        steps = [take_step(make_batches(2), RATE) for _ in range(3)]
        numbers = [(each.numbers, each.gradient_norm) for each in steps]
        outcomes.append((numbers, weights(engine.module)))

    (kept, kept_weights), (seen_again, other_weights) = outcomes
    assert kept == seen_again
    assert all(torch.equal(other_weights[name], tensor) for name, tensor in kept_weights.items())


@pytest.mark.parametrize(("stage", "precision"), [(1, "fp32"), (3, "bf16_autocast"), (2, "bf16")])
def test_pixels_are_regressed_without_prototypes(
    one_rank: RankContext,
    make_request: MakeRequest,
    make_batches: MakeBatches,
    stage: int,
    precision: str,
) -> None:
    model = {"objective": "l2", "target": {"kind": "pixels"}}
    request = make_request(model=model, zero_stage=stage, precision=precision)
    _, take_step = start(request, one_rank)

    losses = [float(take_step(make_batches(4), RATE).numbers["loss"]) for _ in range(5)]

    assert losses[-1] < losses[0]


def test_a_step_with_a_gradient_that_is_not_finite_is_not_applied(
    one_rank: RankContext, make_request: MakeRequest, make_batches: MakeBatches
) -> None:
    engine, take_step = start(make_request(), one_rank)
    take_step(make_batches(4), RATE)
    handle = engine.module.encoder_to_decoder.weight.register_hook(lambda grad: grad * torch.inf)
    before = weights(engine.module)

    bad = take_step(make_batches(4), RATE)
    handle.remove()
    after = weights(engine.module)
    good = take_step(make_batches(4), RATE)

    assert not bad.is_applied
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert good.is_applied


def test_a_loss_that_is_not_finite_keeps_a_step_from_being_applied(
    one_rank: RankContext,
    make_request: MakeRequest,
    make_batches: MakeBatches,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, take_step = start(make_request(), one_rank)
    forward = type(engine.module).forward

    def overflow(self: nn.Module, *inputs: Any) -> Any:
        output = forward(self, *inputs)
        return output._replace(loss=output.loss + torch.inf)  # its gradients are finite

    monkeypatch.setattr(type(engine.module), "forward", overflow)
    before = weights(engine.module)

    outcome = take_step(make_batches(4), RATE)

    assert not outcome.is_applied
    assert all(torch.equal(weights(engine.module)[name], t) for name, t in before.items())


def test_the_rate_of_a_step_is_the_one_given(
    one_rank: RankContext, make_request: MakeRequest, make_batches: MakeBatches
) -> None:
    engine, take_step = start(make_request(), one_rank)
    before = weights(engine.module)

    take_step(make_batches(4), 0.0)
    after_nothing = weights(engine.module)
    take_step(make_batches(4), RATE)

    # But for the last bit of the prototypes, which are brought to unit length again.
    for name, tensor in before.items():
        torch.testing.assert_close(after_nothing[name], tensor, rtol=0, atol=1e-6)
    moved = weights(engine.module)["mask_token"] - before["mask_token"]
    assert 0.5 * RATE < moved.abs().max() < 3 * RATE


def test_masks_follow_from_epoch_and_position_alone() -> None:
    config = ModelConfig()
    clip, places = torch.zeros(2, 3, 1, 1, 1), torch.tensor([4, 9])
    batch = Batch(clip, 1, places, places, places)
    swapped = Batch(clip, 1, places.flip(0), places, places)
    later = Batch(clip, 2, places, places, places)

    masks = batch_masks(batch, config, 0)

    assert torch.equal(batch_masks(swapped, config, 0), masks.flip(0))
    assert not torch.equal(batch_masks(later, config, 0), masks)
    assert not torch.equal(batch_masks(batch, config, 1), masks)
