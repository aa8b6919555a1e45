"""Actions of which several happen in a video, by full fine-tuning: SEVERE's Charades column.

Published for R(2+1)D-18 alone (protocols 5.2); with what recipe ViT encoders were fine-tuned is not
known. Kept from there: what a clip is taught, the loss, crops and flips, dropout, epochs and their
warm-up, test views and their merging, the metric. From fine-tuning of ViTs (protocols 2), since
neither SGD with steps nor its rate is for them: AdamW with layer decay, cosine, stochastic depth.
Meaningless here: the order of colours, as encoders of this project know RGB, and precise batch
statistics, as a ViT has none.
"""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from sigma_pipeline.data_prep.config import MultiViewConfig
from sigma_pipeline.jobs.benchmarks.benchmark import Cost, Needs, Result, Subject
from sigma_pipeline.jobs.benchmarks.classifier_settings import ClassifierSettings
from sigma_pipeline.jobs.benchmarks.fine_tuned_views import view_outputs
from sigma_pipeline.jobs.benchmarks.fine_tuning import (
    fine_tune,
    smaller_step,
    training_config,
    videos_of_step,
)
from sigma_pipeline.jobs.benchmarks.labelled_videos import LabelledVideos
from sigma_pipeline.jobs.benchmarks.multilabel_result import (
    Merging,
    merged_views,
    multilabel_result,
)
from sigma_pipeline.jobs.benchmarks.multilabel_training import MultilabelTuning
from sigma_pipeline.jobs.decoded import ClipShape


class Multilabel(ClassifierSettings, frozen=True, extra="forbid"):
    """Mean average precision of a fine-tuned encoder with a score for each class."""

    name: ClassVar[str] = "multilabel"
    version: ClassVar[int] = 1
    cost: ClassVar[Cost] = "dear"
    summary: ClassVar[str] = "Several classes per video: full fine-tuning, mAP"

    epochs: PositiveInt = 57
    warmup_epochs: float = Field(default=4, ge=0)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    augment_operations: NonNegativeInt = 0
    erase_probability: float = Field(default=0.0, ge=0, le=1)
    crop: Literal["multi_scale", "random_resized"] = "multi_scale"
    """Of training clips: ``multi_scale`` takes 1 to .66 of the short side, where the published
    crops take .88 to .66; ``random_resized`` as fine-tuning on other datasets."""
    merging: Merging = "max"
    """Of the probabilities of a video's views."""

    @property
    def needs(self) -> Needs:
        """Both splits with the classes of their samples, and 10 x 3 views of each test video."""
        view = MultiViewConfig(sampling="dense", frame_stride=8, segments=10, crops=3)
        return Needs(
            train=True, all_labels=True, encoder=True, trains=True, pooled=False, view=view
        )

    def scores_of(self, subject: Subject, seed: int) -> Result:
        """``map`` over all test samples whose classes are known.

        Raises:
            ValueError: a split has no such sample, no test sample has any class, or the gang cannot
                share a step.
            Interrupted: training was asked to stop.
            StageError: a sample cannot be read, or the loss is not finite.
        """
        assert subject.train is not None, "needs.train"
        train = LabelledVideos.of(subject.train, "training", subject.train_positions)
        test = LabelledVideos.of(subject.test, "test")
        tuning = self._tuning(subject, train.positions, seed)
        batch_videos = videos_of_step(self.batch_videos, len(train))
        recipe = self.recipe(batch_videos)
        config = training_config(subject, tuning, recipe, num_videos=len(train))
        commit = fine_tune(subject, tuning, config)
        scores = merged_views(view_outputs(subject, tuning, commit, test.positions), self.merging)
        notes = [*train.notes, *test.notes, *_unseen(train, test)]
        notes += smaller_step("batch_videos", self.batch_videos, len(train), batch_videos)
        result = multilabel_result(scores, test, seed, notes)
        kept = self.kept_files(subject, tuning, commit)
        return replace(result, files={**result.files, **kept})

    def _tuning(
        self, subject: Subject, positions: tuple[int, ...] | None, seed: int
    ) -> MultilabelTuning:
        model = subject.source.model_config
        return MultilabelTuning(
            source=subject.source,
            seed=seed,
            clip=self.training_clip(subject.view, self.crop),
            num_frames=ClipShape.of(subject.view, model).num_frames,
            positions=positions,
            layer_decay=self.layer_decay,
            drop_path=self.drop_path,
            dropout=self.dropout,
            num_classes=len(subject.test.classes),
        )


def _unseen(train: LabelledVideos, test: LabelledVideos) -> list[str]:
    """A remark where a test sample has a class that no training sample has."""
    taught, asked = (videos.multi_hot.any(axis=0) for videos in (train, test))
    unseen = int(np.count_nonzero(asked & ~taught))
    return [f"{unseen} test classes have no training sample: counted"] if unseen else []


BENCHMARK = Multilabel
