"""Fine-tuning on several classes per clip: those that apply while it lasts (protocols 5.2)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sigma_pipeline.data_prep.clip_plan import ClipPlan
from sigma_pipeline.data_prep.hot_columns import ClipSource
from sigma_pipeline.data_prep.label_spans import SpanLabels
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.jobs.fine_tuning_objective import Examples, FineTuning, FineTuningObjective
from sigma_pipeline.model.classifier import VideoClassifier
from sigma_pipeline.model.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class MultilabelTuning(FineTuning):
    """See ``Learning``."""

    num_classes: int

    def objective(self) -> "MultilabelObjective":
        """See ``Learning``."""
        return MultilabelObjective(self)


@dataclass(frozen=True)
class SpanPlan(ClipPlan):
    """Cuts clips as all do; a clip's target is what happens between its first and last frame."""

    spans: SpanLabels

    def target(
        self, sample: int, source: ClipSource, epoch: int, first: int, frames: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Multi-hot [classes]."""
        return self.spans.between(sample, int(frames.min()), int(frames.max()))


class MultilabelObjective(FineTuningObjective):
    """Binary cross-entropy of every class, averaged over classes and clips."""

    def __init__(self, tuning: MultilabelTuning) -> None:
        """Takes settings."""
        super().__init__(tuning)
        self._num_classes = tuning.num_classes

    def plan(self, pool: Pool) -> SpanPlan:
        """See ``Objective``; reads the annotations of all samples."""
        rows = (row for index in pool.indexes for row in index.rows)
        return SpanPlan(
            **vars(super().plan(pool)), spans=SpanLabels(rows, num_classes=self._num_classes)
        )

    def model_around(self, encoder: Encoder) -> VideoClassifier:
        """See ``FineTuningObjective``."""
        return VideoClassifier(encoder, self._num_classes, self._tuning.seed)

    def outputs(self, model: Any, examples: Examples) -> Any:
        """See ``FineTuningObjective``: logits [batch, classes], with dropout."""
        return model(examples.clip, self.branch_scales(examples), self.dropout_scales(examples))

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """See ``FineTuningObjective``: of logits [batch, classes] and what applies."""
        return F.binary_cross_entropy_with_logits(outputs.float(), targets)
