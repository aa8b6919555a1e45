"""One optimizer step over a global batch, on a DeepSpeed engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.objective import Objective
from sigma_pipeline.jobs.optimizer import set_learning_rate
from sigma_pipeline.jobs.pace import Pace

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine


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
        objective: Objective,
        *,
        before_update: Callable[[], None] = lambda: None,
    ) -> None:
        """``before_update``: called just before weights and optimizer state change."""
        self._engine = engine
        self._context = context
        self._objective = objective
        self._before_update = before_update
        self.pace = Pace(context.device)

    def __call__(self, batches: Sequence[Batch], learning_rate: float) -> StepOutcome:
        """Gradients over all micro-batches, and one update.

        A loss that is not finite on any rank keeps the update from being applied on every rank.
        """
        self.pace.begin()
        set_learning_rate(self._engine.optimizer.param_groups, learning_rate)
        forwards = self._objective.forwards(self._engine, self._context, batches, self.pace.meet)
        skipped_before = self._engine.skipped_steps
        numbers: list[dict[str, Tensor]] = []
        for forward in forwards:
            output = forward()
            self.pace.meet()
            self._engine.backward(_nan_unless_finite(output.loss))
            numbers.append({"loss": output.loss.detach(), **output.numbers})
            if len(numbers) == len(forwards):
                self._before_update()
            self._engine.step()  # updates after the last micro-batch
        is_applied = self._engine.skipped_steps == skipped_before
        if is_applied:
            self._objective.after_update(self._engine)
        means = {name: torch.stack([each[name] for each in numbers]).mean() for name in numbers[0]}
        norm = float(self._engine.get_global_grad_norm())
        return StepOutcome(means, norm, is_applied, tuple(each["loss"] for each in numbers))


def _nan_unless_finite(loss: Tensor) -> Tensor:
    """The loss, with gradients that are NaN where it is not finite itself.

    DeepSpeed looks at gradients only, and a loss may overflow while they do not. No host wait.
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)
