"""Settings of datasets, of sharding them, and of cutting clips from them."""

from typing import Literal, Self

from pydantic import BaseModel, Field, PositiveInt, model_validator


class TranscodeConfig(BaseModel, frozen=True, extra="forbid"):
    """How videos are re-encoded (h264) when ``media`` is ``transcode``."""

    short_side_px: PositiveInt = 256
    gop_frames: PositiveInt = 12
    """Longest distance between keyframes; short ones make random clip starts cheap."""
    crf: int = Field(default=20, ge=0, le=51)


class RenderedConfig(BaseModel, frozen=True, extra="forbid"):
    """The synthetic motion videos that the source ``demo://`` stands for."""

    train_clips: PositiveInt = 1200
    val_clips: PositiveInt = 240
    frames: PositiveInt = 16
    size_px: PositiveInt = 48
    seed: int = 0


class DatasetConfig(BaseModel, frozen=True, extra="forbid"):
    """Where a dataset comes from and how its videos are stored."""

    source: str | tuple[str, ...]
    """Folder of videos, several of them, or ``demo://`` for videos rendered here."""
    catalogue: Literal["folder"] = "folder"
    """``folder``: a video's class is the sub-folder it lies in; none at the top."""
    splits: dict[str, float] = {"train": 0.8, "val": 0.2}
    """Share of each split, drawn per class from names alone; a source whose top folders bear
    exactly these names is taken as split already."""
    sidecars: bool = False
    """Take ``<stem>.json`` (annotation) and ``<stem>.masks/<frame>.png`` (palette masks) beside a
    video as parts of its sample."""
    rendered: RenderedConfig | None = None
    """Only with ``demo://``."""
    media: Literal["copy", "transcode"] = "copy"
    transcode: TranscodeConfig | None = None
    min_frames: int = Field(default=2, ge=2)
    max_rejected_fraction: float | None = Field(default=None, ge=0, le=1)
    """Overrides ``shard.max_rejected_fraction`` for this dataset."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The source folders, one or more."""
        return (self.source,) if isinstance(self.source, str) else self.source

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        if not self.sources:
            raise ValueError("source is empty; name a folder of videos")
        if (self.media == "transcode") != (self.transcode is not None):
            raise ValueError("transcode is set when, and only when, media is 'transcode'")
        if not self.splits or any(share <= 0 for share in self.splits.values()):
            raise ValueError("splits must name at least one split, each with a share above 0")
        if abs(sum(self.splits.values()) - 1) > 1e-6:
            raise ValueError(f"splits add up to {sum(self.splits.values()):g}, not 1")
        return self


class ShardConfig(BaseModel, frozen=True, extra="forbid"):
    """How sharding is done."""

    source: str | tuple[str, ...] | None = None
    """Sets the source of the recipe's first dataset; for ``--set shard.source=DIR``."""
    datasets: tuple[str, ...] | None = None
    """Which datasets to shard; all of the recipe's when absent."""
    samples_per_shard: PositiveInt = 256
    bytes_per_shard: PositiveInt = 1 << 30
    """A shard is closed before the source bytes assigned to it pass this."""
    max_rejected_fraction: float = Field(default=0.1, ge=0, le=1)
    """The stage fails when more of the inputs than this were rejected. Files that do not claim to
    be videos (.txt, .csv, ...) are listed but not counted."""


class ClipConfig(BaseModel, frozen=True, extra="forbid"):
    """How a training clip is cut from a video."""

    frame_stride: PositiveInt = 2
    """Distance of a clip's frames in the video."""
    crop: Literal["resize", "multi_scale"] = "multi_scale"
    """``multi_scale``: corner and centre crops at scales 1, .875, .75, .66 (protocols 1.1);
    ``resize``: the whole frame, squashed to the square."""
    flip_probability: float = Field(default=0.0, ge=0, le=1)


class LoaderConfig(BaseModel, frozen=True, extra="forbid"):
    """How clips get to the training process."""

    workers: int = Field(default=2, ge=0)
    """Decoding processes per rank; 0 decodes in the training process."""
    prefetch_batches: PositiveInt = 4
    """Per worker, ahead of the batch in use."""
    decoded_cache_gib: float = Field(default=0.0, ge=0)
    """Memory per decoding process in which whole decoded videos are kept; for small datasets."""


class ViewConfig(BaseModel, frozen=True, extra="forbid"):
    """How an evaluation clip is cut: one clip from the middle of each video."""

    frame_stride: PositiveInt = 2
    crop: Literal["resize", "centre"] = "centre"
    """``centre``: short side resized, then a centred square; ``resize``: squashed to the square."""
