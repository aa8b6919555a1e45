"""Learning to correct guesses of cycle lengths, as an objective of fine-tuning (protocols 5.2)."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.jobs.benchmarks.cycle_anchors import ANCHORS
from sigma_pipeline.jobs.benchmarks.cycle_clips import CyclePlan, Guesses
from sigma_pipeline.jobs.benchmarks.cycle_videos import marked_cycles
from sigma_pipeline.jobs.benchmarks.cycles import Context
from sigma_pipeline.jobs.fine_tuning_objective import Examples, FineTuning, FineTuningObjective
from sigma_pipeline.model.cycle_counter import CycleCounter, cycle_loss
from sigma_pipeline.model.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class CycleTuning(FineTuning):
    """See ``FineTuning``; ``num_frames`` is that of a half of the input, a clip of its own."""

    context: Context
    guesses: Guesses
    box_weight: float

    def objective(self) -> "CycleObjective":
        """See ``Learning``."""
        return CycleObjective(self)


class CycleObjective(FineTuningObjective):
    """See ``FineTuningObjective``."""

    def __init__(self, tuning: CycleTuning) -> None:
        """Takes settings."""
        super().__init__(tuning)
        self.flops_per_clip *= 2  # two halves
        self._cycles = tuning

    def model_around(self, encoder: Encoder) -> CycleCounter:
        """See ``FineTuningObjective``."""
        return CycleCounter(encoder, len(ANCHORS), self._cycles.seed)

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """See ``FineTuningObjective``."""
        return cycle_loss(outputs, targets, self._cycles.box_weight)

    def branch_scales(self, examples: Examples) -> Tensor | None:
        """See ``FineTuningObjective``: both halves of a clip leave out the same branches."""
        scales = super().branch_scales(examples)
        return None if scales is None else scales.repeat_interleave(2, dim=0)

    def plan(self, pool: Pool) -> CyclePlan:
        """See ``Objective``."""
        tuning = self._cycles
        return CyclePlan(
            tuning.clip,
            2 * tuning.num_frames,
            self._model_config.frame_size_px,
            tuning.seed,
            tuple(cycles for index in pool.indexes for cycles in marked_cycles(index)),
            tuning.context,
            tuning.guesses,
        )
