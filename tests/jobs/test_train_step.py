"""One step: the same science however a global batch is cut, and nothing that is not finite."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sigma_pipeline.data_prep.loader import Batch
from sigma_pipeline.jobs.config import TrainConfig
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.optimizer import build_adamw
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_step import TrainStep, batch_masks, build_engine, deepspeed_config
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.loss import normalize_prototypes
from sigma_pipeline.model.sigma import build_sigma

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
    return engine, TrainStep(engine, context, model=request.model, seed=request.seed)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def plain_losses(request: TrainRequest, batch: Batch, steps: int) -> tuple[list[float], nn.Module]:
    """The same training without DeepSpeed."""
    model = build_sigma(request.model, request.seed)
    optimizer = build_adamw(model, request.train.optimizer)
    losses = []
    for group in optimizer.param_groups:
        group["lr"] = RATE
    for _ in range(steps):
        loss = model(batch.clip, batch_masks(batch, request.model, request.seed)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.prototypes.data.copy_(normalize_prototypes(model.prototypes.data))
        losses.append(float(loss.detach()))
    return losses, model


def test_zero_1_on_one_rank_is_plain_adamw(
    one_rank: RankContext, make_request: MakeRequest, make_batches: MakeBatches
) -> None:
    request = make_request(micro_batch_clips=8)
    engine, take_step = start(request, one_rank)

    losses = [float(take_step(make_batches(8), RATE).numbers["loss"]) for _ in range(6)]

    expected, model = plain_losses(request, make_batches(8)[0], 6)
    assert losses == pytest.approx(expected, rel=1e-6)
    for name, tensor in weights(model).items():
        torch.testing.assert_close(weights(engine.module)[name], tensor, rtol=1e-5, atol=1e-6)


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


@pytest.mark.parametrize("precision", ["fp32", "bf16_autocast"])
def test_prototypes_stay_on_the_sphere_in_the_master_and_in_the_module(
    one_rank: RankContext, make_request: MakeRequest, make_batches: MakeBatches, precision: str
) -> None:
    from deepspeed.utils import safe_get_full_fp32_param

    engine, take_step = start(make_request(precision=precision), one_rank)
    before = engine.module.prototypes.detach().clone()

    for _ in range(3):
        assert take_step(make_batches(4), RATE).is_applied

    module, master = engine.module.prototypes, safe_get_full_fp32_param(engine.module.prototypes)
    assert not torch.allclose(module, before, atol=1e-4)
    torch.testing.assert_close(module.norm(dim=1), torch.ones(12))
    torch.testing.assert_close(master, module.detach(), rtol=0, atol=0)


def test_autocast_stays_near_float32(
    one_rank: RankContext, make_request: MakeRequest, make_batches: MakeBatches
) -> None:
    losses = {}
    for precision in ("fp32", "bf16_autocast"):
        request = make_request(model={"assignment": "soft"}, precision=precision)
        _, take_step = start(request, one_rank)
        losses[precision] = [
            float(take_step(make_batches(4), RATE).numbers["loss"]) for _ in range(3)
        ]

    assert losses["bf16_autocast"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["bf16_autocast"] != losses["fp32"]


def test_pixels_are_regressed_without_prototypes(
    one_rank: RankContext, make_request: MakeRequest, make_batches: MakeBatches
) -> None:
    model = {"objective": "l2", "target": {"kind": "pixels"}}
    _, take_step = start(make_request(model=model), one_rank)

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


def test_buckets_are_no_larger_than_the_model() -> None:
    train = TrainConfig(dataset="d", global_batch_clips=64, micro_batch_clips=8)

    config = deepspeed_config(train, 4, num_elements=1001, is_cuda=True)

    zero = config["zero_optimization"]
    assert (zero["stage"], zero["overlap_comm"]) == (1, True)
    assert zero["reduce_bucket_size"] == zero["allgather_bucket_size"] == 1002
    assert config["gradient_accumulation_steps"] == 4
    assert config["gradient_clipping"] == 0
