"""Settings that all benchmarks have which train through the encoder."""

from typing import Annotated

from pydantic import (
    BaseModel,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from sigma_pipeline.jobs.benchmarks.fine_tuning import Recipe

Share = Annotated[float, Field(ge=0, lt=1)]
"""Of what is left out at random."""


class TuningSettings(BaseModel, frozen=True, extra="forbid", validate_default=True):
    """Defaults are those of the published script for K400 (protocols 2)."""

    epochs: PositiveInt = 100
    """SSv2: 40."""
    warmup_epochs: float = Field(default=5, ge=0)
    base_lr: PositiveFloat = 1e-3
    """Per 256 videos of a step: the peak is 1.25e-4 with 32."""
    min_lr: float = Field(default=1e-6, ge=0)
    """End of the cosine, per 256 videos too."""
    weight_decay: float = Field(default=0.05, ge=0)
    layer_decay: float = Field(default=0.75, gt=0, le=1)
    """Learning rate of a layer over that of the next; of the head it is the full one."""
    drop_path: Share = 0.1
    flip_probability: float = Field(default=0.5, ge=0, le=1)
    """0 for SSv2, whose classes have directions."""

    @field_validator("warmup_epochs")
    @classmethod
    def _ends_before_training(cls, warmup_epochs: float, found: ValidationInfo) -> float:
        epochs = found.data.get("epochs")
        if epochs is not None and warmup_epochs > epochs:
            raise ValueError(
                f"{warmup_epochs:g} is longer than the training of {epochs} epochs, whose rate "
                "would never reach its peak; set a smaller one"
            )
        return warmup_epochs

    def recipe(self, batch_videos: int, visits: int = 1) -> Recipe:
        """How long and how fast is learned.

        Args:
            batch_videos: of a step.
            visits: of each video in an epoch of these settings; one of the trainer's is one visit.
        """
        return Recipe(
            epochs=self.epochs * visits,
            warmup_epochs=self.warmup_epochs * visits,
            batch_videos=batch_videos,
            base_lr=self.base_lr,
            min_lr=self.min_lr,
            weight_decay=self.weight_decay,
        )
