"""What benchmarks have in common that fine-tune an encoder with a score for each class."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from sigma_pipeline.data_prep.config import AugmentConfig, ClipConfig, ViewConfig
from sigma_pipeline.jobs.benchmarks.benchmark import Subject
from sigma_pipeline.jobs.benchmarks.fine_tuning import CURVE, training_curve
from sigma_pipeline.jobs.benchmarks.tuning_settings import Share, TuningSettings
from sigma_pipeline.jobs.checkpoints import load_weights
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.fine_tuned_export import FILE
from sigma_pipeline.jobs.fine_tuning_objective import FineTuning
from sigma_pipeline.model.checkpoint_files import safetensors_file


class ClassifierSettings(TuningSettings, frozen=True, extra="forbid"):
    """Their settings."""

    batch_videos: PositiveInt = 32
    """Of a step: 8 GPUs x 4. A split with fewer videos makes it smaller."""
    clips_per_video: PositiveInt = 1
    """Augmentations of each decoded clip; the learning rate does not count them."""
    dropout: Share = 0.0
    """Before the last layer; UCF101: 0.5."""
    augment_operations: NonNegativeInt = 4
    augment_magnitude: float = Field(default=7, ge=0, le=10)
    erase_probability: float = Field(default=0.25, ge=0, le=1)
    keeps_weights: bool = True
    """Beside the scores, for ``checkpoints export --fine-tuned``."""

    def training_clip(
        self, view: ViewConfig, crop: Literal["multi_scale", "random_resized"]
    ) -> ClipConfig:
        """How training clips are cut, which are sampled as those of ``view``.

        Raises:
            ValueError: these are drawn at random.
        """
        if view.sampling == "random":
            raise ValueError("view.sampling=random is not for training; set dense or segments")
        return ClipConfig(
            sampling=view.sampling,
            frame_stride=view.frame_stride,
            starts="any",
            crop=crop,
            flip_probability=self.flip_probability,
            clips_per_decode=self.clips_per_video,
            augment=AugmentConfig(
                operations=self.augment_operations,
                magnitude=self.augment_magnitude,
                erase_probability=self.erase_probability,
            ),
        )

    def kept_files(self, subject: Subject, tuning: FineTuning, commit: Commit) -> dict[str, bytes]:
        """What stays beside the scores: the training's curve, and the weights if they are kept."""
        files = {CURVE: training_curve(subject)}
        if self.keeps_weights:
            weights = load_weights(subject.storage, commit)
            files[FILE] = safetensors_file(weights, tuning.model, subject.test.classes)
        return files
