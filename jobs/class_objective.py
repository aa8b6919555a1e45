"""Fine-tuning of a classifier: one class for each clip (protocols 2)."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.draws import generator
from sigma_pipeline.data_prep.mixing import Mixing, draw_mix, mix_batch, order_of_pairs, smoothed
from sigma_pipeline.jobs.fine_tuning_objective import Examples, FineTuning, FineTuningObjective
from sigma_pipeline.model.classifier import VideoClassifier
from sigma_pipeline.model.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class ClassTuning(FineTuning):
    """See ``ClassObjective``."""

    num_classes: int
    global_batch_clips: int
    """Of a step; its clips are all mixed in one way."""
    mixing: Mixing

    def objective(self) -> "ClassObjective":
        """See ``Learning``."""
        return ClassObjective(self)


class ClassObjective(FineTuningObjective):
    """Cross-entropy with soft targets, of clips that are mixed in pairs.

    Clips of one video stand side by side; with ``mixing`` on, a micro-batch has an even number of
    videos, and the first of one is mixed with the first of the next, and so on.
    """

    def __init__(self, tuning: ClassTuning) -> None:
        super().__init__(tuning)
        self._classes = tuning

    def model_around(self, encoder: Encoder) -> nn.Module:
        """See ``FineTuningObjective``."""
        return VideoClassifier(encoder, self._classes.num_classes, self._classes.seed)

    def outputs(self, model: Any, examples: Examples) -> Any:
        """Scores [batch, classes], with dropout."""
        return model(examples.clip, self.branch_scales(examples), self.dropout_scales(examples))

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Soft-target cross-entropy."""
        return F.cross_entropy(outputs.float(), targets)

    def targets(self, batch: Batch) -> Tensor:
        """[batch, classes] of clips that are not mixed."""
        smoothing = self._classes.mixing.label_smoothing
        return smoothed(batch.labels, self._classes.num_classes, smoothing)

    def examples(self, batch: Batch, device: torch.device) -> Examples:
        """Mixed clips, rounded to whole levels of brightness as all clips are, and their targets.

        Raises:
            ValueError: the micro-batch has an odd number of videos.
        """
        mixing = self._classes.mixing
        if not mixing.mixes:
            return super().examples(batch, device)
        number = int(batch.positions[0]) // self._classes.global_batch_clips
        mix = draw_mix(mixing, generator(self._classes.seed, batch.epoch, number, "mix"))
        repeats = self._classes.clip.clips_per_decode
        batch = batch.reordered(order_of_pairs(len(batch.clip), repeats))
        clip = batch.clip.to(device, non_blocking=True).float()
        labels = batch.labels.to(device, non_blocking=True)
        mixed, targets = mix_batch(clip, labels, self._classes.num_classes, mixing, mix)
        return Examples(mixed.round().to(torch.uint8), targets, self.draws(batch))
