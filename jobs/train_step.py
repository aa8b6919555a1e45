"""One optimizer step of SIGMA over a global batch, on a DeepSpeed engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.draws import sample_seed
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.masters import own_parameters_fetched, renormalize_prototypes
from sigma_pipeline.jobs.optimizer import set_learning_rate
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.masking import tube_masks
from sigma_pipeline.model.scores import CosineScores, joined_scores
from sigma_pipeline.model.sigma import AssignFunction
from sigma_pipeline.model.sinkhorn import Assignments, assign_both
from sigma_pipeline.model.stochastic_depth import branch_scales

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine

_Inputs = tuple[Tensor, Tensor, Tensor | None]
"""Clips, masks, and what stochastic depth does to each clip."""


@dataclass(frozen=True)
class StepOutcome:
    """What came of one step. Tensors stay on the device: reading them would wait for it."""

    numbers: dict[str, Tensor]
    """Means over this rank's micro-batches; ``loss`` among them."""
    gradient_norm: float
    """Over all ranks, before clipping; infinite when the step was not applied."""
    is_applied: bool
    """False when the loss of some rank, or a gradient, was not finite."""


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
        assign_functions = self._assign_functions(inputs)
        for (clip, mask, scales), assign in zip(inputs, assign_functions, strict=True):
            output = self._engine(clip, mask, assign, scales)
            self._engine.backward(_nan_unless_finite(output.loss))
            self._engine.step()  # updates after the last micro-batch
            numbers.append({"loss": output.loss.detach(), **output.numbers})
        is_applied = self._engine.skipped_steps == skipped_before
        if is_applied and self._model.objective == "sigma":
            renormalize_prototypes(self._engine)
        means = {name: torch.stack([each[name] for each in numbers]).mean() for name in numbers[0]}
        return StepOutcome(means, float(self._engine.get_global_grad_norm()), is_applied)

    def _inputs(self, batch: Batch) -> _Inputs:
        """Clips on the device, masks beside them, and the draws of stochastic depth."""
        device = self._context.device
        mask = batch_masks(batch, self._model, self._seed)
        scales = branch_scales(self._model, _seeds(batch, self._seed, "drop_path"))
        if scales is not None:
            scales = scales.to(device, non_blocking=True)
        return batch.clip.to(device, non_blocking=True), mask, scales

    def _assign_functions(self, inputs: Sequence[_Inputs]) -> list[AssignFunction | None]:
        """Assignments over the micro-batches of all ranks, either one by one or all together."""
        if self._model.objective != "sigma":
            return [None] * len(inputs)
        if len(inputs) == 1 or self._model.sinkhorn.scope == "micro_batch":
            return [self._assign_over_ranks] * len(inputs)
        scored = [self._scores(*each) for each in inputs]
        sizes = [target.shape[0] for target, _ in scored]
        whole = self._assign_over_ranks(
            joined_scores([target for target, _ in scored]),
            joined_scores([prediction for _, prediction in scored]),
        )
        parts = zip(
            torch.split(whole.target, sizes), torch.split(whole.prediction, sizes), strict=True
        )
        return [_known(Assignments(*part, whole.numbers)) for part in parts]

    def _assign_over_ranks(self, target: CosineScores, prediction: CosineScores) -> Assignments:
        return assign_both(target, prediction, self._model, self._context.sum_on_device)

    def _scores(
        self, clip: Tensor, mask: Tensor, scales: Tensor | None
    ) -> tuple[CosineScores, CosineScores]:
        """Scores as the forward pass of the engine will compute them."""
        module = self._engine.module
        is_autocast = self._engine.torch_autocast_enabled()
        autocast = torch.autocast(clip.device.type, dtype=torch.bfloat16, enabled=is_autocast)
        with autocast, own_parameters_fetched(module):
            scores: tuple[CosineScores, CosineScores] = module.scores(clip, mask, scales)
        return scores


def batch_masks(batch: Batch, model: ModelConfig, seed: int) -> Tensor:
    """Masks of a batch's clips, drawn from seed, epoch and position alone; True: hidden."""
    return tube_masks(model, _seeds(batch, seed, "mask"))


def _seeds(batch: Batch, seed: int, purpose: str) -> list[int]:
    places = batch.positions.tolist()
    return [sample_seed(seed, batch.epoch, place, purpose) for place in places]


def _nan_unless_finite(loss: Tensor) -> Tensor:
    """The loss, with gradients that are NaN where it is not finite itself.

    DeepSpeed looks at gradients only, and a loss may overflow while they do not. No host wait.
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)


def _known(assignments: Assignments) -> AssignFunction:
    return lambda _target, _prediction: assignments
