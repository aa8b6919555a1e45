"""Learning what is done in the boxes of a clip, as an objective of fine-tuning (protocols 5.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.marked_seconds import (
    MarkedSecond,
    MarkedSeconds,
    marked_seconds,
    shown,
)
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.jobs.benchmarks.box_clips import CORNERS, BoxPlan
from sigma_pipeline.jobs.fine_tuning_objective import Examples, FineTuning, FineTuningObjective
from sigma_pipeline.model.box_classifier import BoxClassifier, SlicePooling
from sigma_pipeline.model.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class BoxTuning(FineTuning):
    """See ``BoxObjective``."""

    num_classes: int
    max_boxes: int
    """Of a clip, while training."""
    min_score: float | None
    """Of predicted boxes that are learned from; None: of none."""
    slices: SlicePooling

    def objective(self) -> "BoxObjective":
        """See ``Learning``."""
        return BoxObjective(self)


class BoxObjective(FineTuningObjective):
    """Binary cross-entropy of each class in each box.

    Averaged over the boxes of a clip before it is over clips, so that a step does not depend on how
    it is cut into micro-batches.
    """

    def __init__(self, tuning: BoxTuning) -> None:
        """Takes settings."""
        super().__init__(tuning)
        self._boxes = tuning

    def plan(self, pool: Pool) -> BoxPlan:
        """See ``Objective``; reads the annotations of all samples."""
        tuning = self._boxes
        return BoxPlan(
            tuning.clip,
            tuning.num_frames,
            self._model_config.frame_size_px,
            tuning.seed,
            MarkedSeconds(
                movie
                for index in pool.indexes
                for movie in learned_seconds(index, tuning.min_score)
            ),
            tuning.num_classes,
            tuning.max_boxes,
        )

    def model_around(self, encoder: Encoder) -> BoxClassifier:
        """See ``FineTuningObjective``."""
        tuning = self._boxes
        return BoxClassifier(encoder, tuning.num_classes, tuning.seed, tuning.slices)

    def outputs(self, model: Any, examples: Examples) -> Any:
        """See ``FineTuningObjective``: scores [batch, boxes, classes]."""
        boxes = examples.targets[..., :CORNERS]
        scales = self.branch_scales(examples), self.dropout_scales(examples)
        return model(examples.clip, boxes, *scales)

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """See ``FineTuningObjective``."""
        done, is_box = targets[..., CORNERS:-1], targets[..., -1]
        each = F.binary_cross_entropy_with_logits(outputs.float(), done, reduction="none")
        of_clips = (each.mean(dim=-1) * is_box).sum(dim=1) / is_box.sum(dim=1).clamp(min=1)
        return of_clips.mean()


def learned_seconds(index: Index, min_score: float | None) -> Iterator[list[MarkedSecond]]:
    """Of each sample the seconds that it is learned from; perhaps none.

    Those with true boxes. Predicted boxes stand beside them in movies where the file says what is
    done in any of them; one of which it says nothing is an example of nothing being done.
    """
    for sample, annotation in enumerate(index.annotations()):
        source = index.source(sample)
        true = shown(marked_seconds(annotation, source, "boxes"), source)
        more = {}
        if min_score is not None:
            predicted = marked_seconds(annotation, source, "predicted_boxes", min_score)
            if any(labels for found in predicted for labels in found.boxes.values()):
                more = {found.second: found for found in predicted}
        yield [one.with_boxes(more[one.second]) if one.second in more else one for one in true]
