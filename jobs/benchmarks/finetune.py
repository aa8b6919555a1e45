"""Full fine-tuning: encoder and classifier are trained together, and tested on many views.

All numbers are those of the published scripts for ViT-B (protocols 2); defaults are those of K400.
What the scripts do otherwise, and what is chosen here:

* the weights of the last step are tested, as published; none are chosen by scores of test samples;
* neighbours in the order of samples are mixed, by one draw for all of a step (published: each
  process mixes its batch with the reverse of it), so that a step is the same on any number of GPUs;
* mixed clips are rounded to the 256 levels that all clips have;
* a split with fewer videos than a step takes makes the step, and with it the rate, smaller;
* weights, gradients and the optimizer are float32, with arithmetic by ``evaluate.precision``
  (published: fp16).
"""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from sigma_pipeline.data_prep.config import MultiViewConfig
from sigma_pipeline.data_prep.mixing import Mixing
from sigma_pipeline.jobs.benchmarks.benchmark import Cost, Needs, Result, Subject
from sigma_pipeline.jobs.benchmarks.class_means import ClassShares, class_mean
from sigma_pipeline.jobs.benchmarks.classification import (
    LabelledSamples,
    classification_result,
    labelled_index,
    merged_views,
    unseen_classes,
)
from sigma_pipeline.jobs.benchmarks.classifier_settings import ClassifierSettings
from sigma_pipeline.jobs.benchmarks.fine_tuned_views import view_outputs
from sigma_pipeline.jobs.benchmarks.fine_tuning import (
    fine_tune,
    smaller_step,
    training_config,
    videos_of_step,
)
from sigma_pipeline.jobs.class_objective import ClassTuning
from sigma_pipeline.jobs.decoded import ClipShape
from sigma_pipeline.jobs.fine_tuning_objective import labelled_positions


class FullFineTuning(ClassifierSettings, frozen=True, extra="forbid"):
    """Encoder without its final norm, mean token, fresh LayerNorm, dropout, linear layer."""

    name: ClassVar[str] = "finetune"
    version: ClassVar[int] = 1
    cost: ClassVar[Cost] = "dear"
    summary: ClassVar[str] = "Full fine-tuning, tested on many views"

    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    mixup_alpha: float = Field(default=0.8, ge=0)
    cutmix_alpha: float = Field(default=1.0, ge=0)

    @property
    def needs(self) -> Needs:
        """Labels of two splits; 5 x 3 views of each test video, as of K400.

        Training clips are sampled as those of the view: ``dense`` from a random start, ``segments``
        with a random frame out of each.
        """
        view = MultiViewConfig(sampling="dense", frame_stride=4, segments=5, crops=3)
        return Needs(train=True, labels=True, encoder=True, pooled=False, trains=True, view=view)

    def scores_of(self, subject: Subject, seed: int) -> Result:
        """Top-1, top-5 and mean per class; probabilities are averaged over the views of a video.

        Raises:
            ValueError: a split has no label, or training videos are too few for the gang.
            StageError: a sample cannot be read, or numbers are not finite.
            Interrupted: training was stopped, and can go on.
        """
        assert subject.train is not None, "needs.train"
        train, notes = labelled_index(subject.train, "train")
        test, more = labelled_index(subject.test, "test")
        batch_videos = videos_of_step(self.batch_videos, len(train), self._unit)
        tuning = self._tuning(subject, batch_videos, seed)
        recipe = self.recipe(batch_videos)
        config = training_config(subject, tuning, recipe, num_videos=len(train), unit=self._unit)
        commit = fine_tune(subject, tuning, config)
        logits = view_outputs(subject, tuning, commit, labelled_positions(subject.test, None))
        class_scores = merged_views(torch.from_numpy(logits))
        class_scores[:, np.setdiff1d(np.arange(tuning.num_classes), train.labels)] = -np.inf
        notes += [*more, *unseen_classes(train.labels, test.labels)]
        notes += smaller_step("batch_videos", self.batch_videos, len(train), batch_videos)
        result = classification_result(class_scores, LabelledSamples.of(test), notes)
        hits, labels = result.outcomes["top1"], result.outcomes["label"]
        return replace(
            result,
            scores=(*result.scores, class_mean(hits, labels, seed)),
            figures=(*result.figures, ClassShares.of(hits, labels).bars("top-1 by class")),
            files=self.kept_files(subject, tuning, commit),
        )

    @property
    def _mixing(self) -> Mixing:
        return Mixing(self.mixup_alpha, self.cutmix_alpha, label_smoothing=self.label_smoothing)

    @property
    def _unit(self) -> int:
        """Videos that no cut of a batch may part."""
        return 2 if self._mixing.mixes else 1

    def _tuning(self, subject: Subject, batch_videos: int, seed: int) -> ClassTuning:
        assert subject.train is not None, "needs.train"
        return ClassTuning(
            source=subject.source,
            seed=seed,
            clip=self.training_clip(subject.view, "random_resized"),
            num_frames=ClipShape.of(subject.view, subject.source.model_config).num_frames,
            positions=labelled_positions(subject.train, subject.train_positions),
            layer_decay=self.layer_decay,
            drop_path=self.drop_path,
            num_classes=len(subject.train.classes),
            global_batch_clips=batch_videos * self.clips_per_video,
            mixing=self._mixing,
            dropout=self.dropout,
        )


BENCHMARK = FullFineTuning
