"""One optimizer step of SIGMA over a global batch, on a DeepSpeed engine.

The engine works at ZeRO stage 1 even for one process: stage 0 of DeepSpeed 0.19 takes a hidden
first step under bf16, and applies gradients that are not finite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sigma_pipeline.data_prep.draws import sample_seed
from sigma_pipeline.data_prep.loader import Batch
from sigma_pipeline.jobs.config import TrainConfig
from sigma_pipeline.jobs.distributed import RankContext, modules_hidden
from sigma_pipeline.jobs.optimizer import build_adamw, set_learning_rate
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.loss import normalize_prototypes
from sigma_pipeline.model.masking import tube_masks
from sigma_pipeline.model.sigma import AssignFunction, Sigma, num_parameters
from sigma_pipeline.model.sinkhorn import assignments

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine

_MAX_BUCKET_ELEMENTS = 100_000_000
_NEVER = 1_000_000_000


@dataclass(frozen=True)
class StepOutcome:
    """What came of one step. Tensors stay on the device: reading them would wait for it."""

    numbers: dict[str, Tensor]
    """Means over this rank's micro-batches; ``loss`` among them."""
    gradient_norm: float
    """Over all ranks, before clipping; infinite when the step was not applied."""
    is_applied: bool
    """False when the loss of some rank, or a gradient, was not finite."""


def deepspeed_config(
    train: TrainConfig, accumulation_steps: int, *, num_elements: int, is_cuda: bool
) -> dict[str, Any]:
    """DeepSpeed's settings; the optimizer and the learning rate are ours."""
    # Buckets beyond the size of the model would only reserve memory; even, as DeepSpeed asks.
    bucket = min(_MAX_BUCKET_ELEMENTS, num_elements + num_elements % 2)
    return {
        "train_batch_size": train.global_batch_clips,
        "train_micro_batch_size_per_gpu": train.micro_batch_clips,
        "gradient_accumulation_steps": accumulation_steps,
        "gradient_clipping": train.optimizer.gradient_clip_norm or 0.0,
        "steps_per_print": _NEVER,
        "wall_clock_breakdown": False,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        # Weights and gradients stay float32; only what runs inside autocast is bfloat16.
        "torch_autocast": {"enabled": train.precision == "bf16_autocast", "dtype": "bfloat16"},
        "zero_optimization": {
            "stage": train.zero_stage,
            "overlap_comm": is_cuda,
            "contiguous_gradients": True,
            "reduce_scatter": True,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
        },
    }


def build_engine(
    model: Sigma, train: TrainConfig, accumulation_steps: int, device: torch.device
) -> "DeepSpeedEngine":
    """The engine around a model that already has its weights: its masters are copied from them."""
    import deepspeed

    model.to(device).train()
    config = deepspeed_config(
        train,
        accumulation_steps,
        num_elements=num_parameters(model),
        is_cuda=device.type == "cuda",
    )
    # Looking whether the optimizer is Muon would load the compiler of PyTorch: a second, 44 MB.
    with modules_hidden("deepspeed.runtime.zero.muon.muon_optimizer"):
        engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=build_adamw(model, train.optimizer),
            config=config,
            dist_init_required=False,
        )
    return engine


class TrainStep:
    """Takes steps; a batch and the weights say all that goes in."""

    def __init__(
        self, engine: "DeepSpeedEngine", context: RankContext, *, model: ModelConfig, seed: int
    ) -> None:
        self._engine = engine
        self._context = context
        self._model = model
        self._seed = seed

    def __call__(self, batches: Sequence[Batch], learning_rate: float) -> StepOutcome:
        """Gradients over all micro-batches, one update, prototypes back on the sphere.

        A loss that is not finite on any rank keeps the update from being applied on every rank.
        """
        set_learning_rate(self._engine.optimizer.param_groups, learning_rate)
        inputs = [self._inputs(batch) for batch in batches]
        skipped_before = self._engine.skipped_steps
        numbers: list[dict[str, Tensor]] = []
        for (clip, mask), assign in zip(inputs, self._assign_functions(inputs), strict=True):
            output = self._engine(clip, mask, assign)
            self._engine.backward(_nan_unless_finite(output.loss))
            self._engine.step()  # updates after the last micro-batch
            numbers.append({"loss": output.loss.detach(), **output.numbers})
        is_applied = self._engine.skipped_steps == skipped_before
        if is_applied and self._model.objective == "sigma":
            renormalize_prototypes(self._engine)
        means = {name: torch.stack([each[name] for each in numbers]).mean() for name in numbers[0]}
        return StepOutcome(means, float(self._engine.get_global_grad_norm()), is_applied)

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Clips on the device, masks beside them."""
        mask = batch_masks(batch, self._model, self._seed)
        return batch.clip.to(self._context.device, non_blocking=True), mask

    def _assign_functions(
        self, inputs: Sequence[tuple[Tensor, Tensor]]
    ) -> list[AssignFunction | None]:
        """Assignments over the micro-batches of all ranks, either one by one or all together."""
        if self._model.objective != "sigma":
            return [None] * len(inputs)
        if len(inputs) == 1 or self._model.sinkhorn.scope == "micro_batch":
            return [self._assign_over_ranks] * len(inputs)
        scored = [self._scores(clip, mask) for clip, mask in inputs]
        sizes = [target.shape[0] for target, _ in scored]
        target, prediction = self._assign_over_ranks(
            torch.cat([target for target, _ in scored]),
            torch.cat([prediction for _, prediction in scored]),
        )
        pairs = zip(torch.split(target, sizes), torch.split(prediction, sizes), strict=True)
        return [_known(pair) for pair in pairs]

    def _assign_over_ranks(self, target: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
        sum_over_ranks = self._context.sum_on_device
        return (
            assignments(target, self._model, sum_over_ranks),
            assignments(prediction, self._model, sum_over_ranks),
        )

    def _scores(self, clip: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Scores as the forward pass of the engine will compute them."""
        is_autocast = self._engine.torch_autocast_enabled()
        with torch.autocast(clip.device.type, dtype=torch.bfloat16, enabled=is_autocast):
            scores: tuple[Tensor, Tensor] = self._engine.module.scores(clip, mask)
        return scores


def batch_masks(batch: Batch, model: ModelConfig, seed: int) -> Tensor:
    """Masks of a batch's clips, drawn from seed, epoch and position alone; True: hidden."""
    positions = batch.positions.tolist()
    return tube_masks(model, [sample_seed(seed, batch.epoch, place, "mask") for place in positions])


@torch.no_grad()
def renormalize_prototypes(engine: "DeepSpeedEngine") -> None:
    """Brings the prototypes back to unit length (protocols 1.3), on every rank at once.

    The float32 master that the optimizer updates must be changed too: the module's copy alone
    would be overwritten by the next step, while the master's norm walks away unseen.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_set_full_fp32_param

    prototypes = engine.module.prototypes
    unit = normalize_prototypes(safe_get_full_fp32_param(prototypes))
    safe_set_full_fp32_param(prototypes, unit)
    prototypes.copy_(unit)


def _nan_unless_finite(loss: Tensor) -> Tensor:
    """The loss, with gradients that are NaN where it is not finite itself.

    DeepSpeed looks at gradients only, and a loss may overflow while they do not. No host wait.
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)


def _known(pair: tuple[Tensor, Tensor]) -> AssignFunction:
    return lambda _target, _prediction: pair
