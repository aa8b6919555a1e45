"""One optimizer step of SIGMA over a global batch, on a DeepSpeed engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.draws import sample_seed
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.masters import own_parameters_fetched, renormalize_prototypes
from sigma_pipeline.jobs.optimizer import set_learning_rate
from sigma_pipeline.jobs.pace import Pace
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.masking import tube_masks
from sigma_pipeline.model.scores import CosineScores, joined_scores
from sigma_pipeline.model.sigma import AssignFunction
from sigma_pipeline.model.sinkhorn import Assignments, assign_both
from sigma_pipeline.model.stochastic_depth import branch_scales

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine


class _Inputs(NamedTuple):
    """What the model is given of a micro-batch."""

    clip: Tensor
    mask: Tensor
    branch_scales: Tensor | None
    """What stochastic depth does to each clip."""
    target_features: Tensor | None
    """Of a frozen teacher, where they are known before the forward pass."""


@dataclass(frozen=True)
class StepOutcome:
    """What came of one step. Tensors stay on the device: reading them would wait for it."""

    numbers: dict[str, Tensor]
    """Means over this rank's micro-batches; ``loss`` among them."""
    gradient_norm: float
    """Over all ranks, before clipping; infinite when the step was not applied."""
    is_applied: bool
    """False when the loss of some rank, or a gradient, was not finite."""
    losses: tuple[Tensor, ...] = ()
    """Of this rank's micro-batches."""


class TrainStep:
    """Takes steps; a batch and the weights say all that goes in."""

    def __init__(
        self,
        engine: "DeepSpeedEngine",
        context: RankContext,
        *,
        model: ModelConfig,
        seed: int,
        before_update: Callable[[], None] = lambda: None,
    ) -> None:
        """``before_update``: called just before weights and optimizer state change."""
        self._engine = engine
        self._context = context
        self._model = model
        self._seed = seed
        self._before_update = before_update
        self.pace = Pace(context.device)

    def __call__(self, batches: Sequence[Batch], learning_rate: float) -> StepOutcome:
        """Gradients over all micro-batches, one update, prototypes back on the sphere.

        A loss that is not finite on any rank keeps the update from being applied on every rank.
        """
        self.pace.begin()
        set_learning_rate(self._engine.optimizer.param_groups, learning_rate)
        is_scored_first = self._is_scored_first(len(batches))
        inputs = [self._inputs(batch, keep_target=is_scored_first) for batch in batches]
        skipped_before = self._engine.skipped_steps
        numbers: list[dict[str, Tensor]] = []
        assign_functions = (
            self._known_assignments(inputs)
            if is_scored_first
            else [self._assign_over_ranks] * len(inputs)
        )
        for each, assign in zip(inputs, assign_functions, strict=True):
            output = self._engine(
                each.clip, each.mask, assign, each.branch_scales, each.target_features
            )
            self.pace.meet()
            self._engine.backward(_nan_unless_finite(output.loss))
            numbers.append({"loss": output.loss.detach(), **output.numbers})
            if len(numbers) == len(inputs):
                self._before_update()
            self._engine.step()  # updates after the last micro-batch
        is_applied = self._engine.skipped_steps == skipped_before
        if is_applied and self._model.objective == "sigma":
            renormalize_prototypes(self._engine)
        means = {name: torch.stack([each[name] for each in numbers]).mean() for name in numbers[0]}
        norm = float(self._engine.get_global_grad_norm())
        return StepOutcome(means, norm, is_applied, tuple(each["loss"] for each in numbers))

    def _is_scored_first(self, num_batches: int) -> bool:
        """Whether the micro-batches are assigned all together, before any is trained on."""
        is_whole = self._model.sinkhorn.scope == "global_batch"
        return self._model.objective == "sigma" and is_whole and num_batches > 1

    def _inputs(self, batch: Batch, *, keep_target: bool) -> _Inputs:
        """Clips on the device, masks beside them, and the draws of stochastic depth.

        With ``keep_target`` a frozen teacher runs here, and no more in this step. What it gives is
        kept until the step ends: micro-batches x clips x hidden tokens x width x 4 bytes.
        """
        device = self._context.device
        clip = batch.clip.to(device, non_blocking=True)
        mask = batch_masks(batch, self._model, self._seed)
        scales = batch_scales(batch, self._model, self._seed)
        if scales is not None:
            scales = scales.to(device, non_blocking=True)
        features = None
        if keep_target:
            with self._autocast():
                features = self._engine.module.frozen_features(clip, mask)
        return _Inputs(clip, mask, scales, features)

    def _known_assignments(self, inputs: Sequence[_Inputs]) -> list[AssignFunction]:
        """Of each micro-batch its part of the assignments over all of them, of all ranks."""
        scored = [self._scores(each) for each in inputs]
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
        self.pace.meet()
        return assign_both(target, prediction, self._model, self._context.sum_on_device)

    def _scores(self, inputs: _Inputs) -> tuple[CosineScores, CosineScores]:
        """Scores as the forward pass of the engine will compute them."""
        module = self._engine.module
        with self._autocast(), own_parameters_fetched(module):
            scores: tuple[CosineScores, CosineScores] = module.scores(*inputs)
        return scores

    def _autocast(self) -> torch.autocast:
        """As in the forward pass of the engine."""
        is_enabled = self._engine.torch_autocast_enabled()
        return torch.autocast(self._context.device.type, torch.bfloat16, is_enabled)


def batch_masks(batch: Batch, model: ModelConfig, seed: int) -> Tensor:
    """Masks of a batch's clips, drawn from seed, epoch and position alone; True: hidden."""
    return tube_masks(model, _seeds(batch, seed, "mask"))


def batch_scales(batch: Batch, model: ModelConfig, seed: int) -> Tensor | None:
    """What stochastic depth does to a batch's clips; drawn like masks. None where there is none."""
    return branch_scales(model, _seeds(batch, seed, "drop_path"))


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
