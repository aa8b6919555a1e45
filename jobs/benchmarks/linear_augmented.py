"""Linear probe as SIGMA's script trains it: on augmented clips, through the frozen encoder.

All numbers are those of the only published script (protocols 3), K400 to SSv2, with the defaults of
fine-tuning (protocols 2) where the script is silent. Not copied: the published encoder stays in
training mode, so that its stochastic depth blurs the features of training clips and not those of
test clips; ``drop_path: 0.1`` brings that back. Another attempt on the same node goes on from the
last whole epoch.
"""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat, PositiveInt

from sigma_pipeline.data_prep.config import AugmentConfig, ClipConfig, MultiViewConfig, ViewConfig
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.mixing import Mixing
from sigma_pipeline.infra.identity import fingerprint
from sigma_pipeline.jobs.benchmarks.augmented_training import (
    FrozenFeatures,
    Training,
    train_head,
    view_features,
)
from sigma_pipeline.jobs.benchmarks.benchmark import Cost, Needs, Result, Subject
from sigma_pipeline.jobs.benchmarks.classification import (
    LabelledSamples,
    classification_result,
    labelled_index,
    merged_views,
    unseen_classes,
)
from sigma_pipeline.jobs.benchmarks.unfinished_head import UnfinishedHead
from sigma_pipeline.jobs.config import OptimizerConfig
from sigma_pipeline.model.weights import save_weights


class AugmentedLinearProbe(BaseModel, frozen=True, extra="forbid"):
    """LayerNorm and linear layer on the mean token of the last block, before the final norm."""

    name: ClassVar[str] = "linear_augmented"
    version: ClassVar[int] = 1
    cost: ClassVar[Cost] = "dear"
    summary: ClassVar[str] = "Linear probe with augmentations, as SIGMA's script"

    epochs: PositiveInt = 30
    warmup_epochs: float = Field(default=5, ge=0)
    batch_videos: PositiveInt = Field(default=384, multiple_of=2)
    """Of a step: 8 GPUs x 24 x 2. A split with fewer videos makes it smaller."""
    clips_per_video: PositiveInt = 2
    """Augmentations of each decoded clip; the learning rate does not count them."""
    base_lr: PositiveFloat = 1e-3
    """Per 256 videos of a step: the peak is 1.5e-3 with 384."""
    min_lr: float = Field(default=1e-6, ge=0)
    """End of the cosine, per 256 videos too."""
    weight_decay: float = Field(default=0.05, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    mixup_alpha: float = Field(default=0.8, ge=0)
    cutmix_alpha: float = Field(default=1.0, ge=0)
    augment_operations: NonNegativeInt = 4
    augment_magnitude: float = Field(default=7, ge=0, le=10)
    flip_probability: float = Field(default=0.0, ge=0, le=1)
    """Of the script, whose SSv2 has directions for classes; 0.5 is what fine-tuning has on all
    other datasets."""
    erase_probability: float = Field(default=0.25, ge=0, le=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Of the frozen encoder, on training clips; published: 0.1."""

    @property
    def needs(self) -> Needs:
        """Both splits with labels, and 2 x 3 views of each test video."""
        view = MultiViewConfig(sampling="segments", segments=2, crops=3)
        return Needs(train=True, labels=True, encoder=True, view=view)

    def scores_of(self, subject: Subject, seed: int) -> Result:
        """Top-1 and top-5, probabilities averaged over the views of a video.

        Raises:
            ValueError: a split has no label, or training videos are fewer than two.
            StageError: a sample cannot be read, or the loss is not finite.
        """
        assert subject.train is not None, "needs.train"
        train, notes = labelled_index(subject.train, "train")
        test, more = labelled_index(subject.test, "test")
        training = self._training(subject.view, len(train), seed)
        frozen = FrozenFeatures(subject)
        unfinished = UnfinishedHead(self._folder(subject, train, seed))
        head = train_head(subject, frozen, train, training, unfinished)
        features = torch.from_numpy(view_features(subject, frozen, test))
        with torch.no_grad():
            logits = head(features.to(frozen.device))
        class_scores = merged_views(logits)
        class_scores[:, np.setdiff1d(np.arange(head.num_classes), train.labels)] = -np.inf
        notes = [*notes, *more, *unseen_classes(train.labels, test.labels)]
        if training.batch_videos != self.batch_videos:
            notes.append(
                f"batch_videos={self.batch_videos} is more than the {len(train)} training videos: "
                f"{training.batch_videos} a step, and the learning rate as much lower"
            )
        unfinished.remove()
        return classification_result(class_scores, LabelledSamples.of(test), notes)

    def _folder(self, subject: Subject, train: Index, seed: int) -> Path:
        """For an unfinished head; named after everything that the trained one depends on."""
        weights = save_weights(subject.encoder.state_dict())
        depends_on = {
            "version": self.version,
            "settings": self.model_dump(),
            "seed": seed,
            "weights": hashlib.sha256(weights).hexdigest(),
            "model": subject.encoder.config.model_dump(mode="json"),
            "train": [asdict(train.ref), train.root_hash, len(train)],
            "view": subject.view.model_dump(mode="json"),
            "pooling": subject.pooling,
            "precision": subject.precision,
        }
        return subject.scratch_dir / self.name / fingerprint(depends_on)

    def _training(self, view: ViewConfig, num_videos: int, seed: int) -> Training:
        batch_videos = min(self.batch_videos, num_videos // 2 * 2)
        if not batch_videos:
            raise ValueError("linear_augmented mixes pairs of videos, and needs two to train on")
        if view.sampling == "random":
            raise ValueError("view.sampling=random is not for training; set dense or segments")
        return Training(
            clip=self._clip(view.sampling, view.frame_stride),
            optimizer=OptimizerConfig(
                base_lr=self.base_lr,
                min_lr=self.min_lr,
                warmup_epochs=self.warmup_epochs,
                betas=(0.9, 0.999),
                weight_decay=self.weight_decay,
            ),
            mixing=Mixing(
                self.mixup_alpha, self.cutmix_alpha, label_smoothing=self.label_smoothing
            ),
            epochs=self.epochs,
            batch_videos=batch_videos,
            drop_path=self.drop_path,
            seed=seed,
        )

    def _clip(self, sampling: Literal["dense", "segments"], frame_stride: int) -> ClipConfig:
        return ClipConfig(
            sampling=sampling,
            frame_stride=frame_stride,
            starts="any",
            crop="random_resized",
            flip_probability=self.flip_probability,
            clips_per_decode=self.clips_per_video,
            augment=AugmentConfig(
                operations=self.augment_operations,
                magnitude=self.augment_magnitude,
                erase_probability=self.erase_probability,
            ),
        )


BENCHMARK = AugmentedLinearProbe
