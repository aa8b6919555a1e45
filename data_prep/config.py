"""Settings of datasets, of sharding them, and of cutting clips from them."""

from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from sigma_pipeline.data_prep.catalogue_names import CatalogueName, default_splits, is_drawn

Check = Literal["decode", "packets"]
"""How much of a copied video is looked at; see ``DatasetConfig.check``."""


class TranscodeConfig(BaseModel, frozen=True, extra="forbid"):
    """How videos are re-encoded (h264 in mp4, upright, square pixels) for ``media: transcode``."""

    short_side_px: PositiveInt = 256
    """Larger videos are scaled down to it; none is enlarged."""
    gop_frames: PositiveInt = 16
    """Distance of keyframes; short ones make random clip starts cheap."""
    disposable_frames: Literal[0, 1, 3] = 3
    """Frames between two that nothing refers to: a clip whose stride skips them decodes a half or
    a quarter of the frames. ``gop_frames`` is a multiple of one more than this."""
    crf: int = Field(default=20, ge=0, le=51)
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = (
        "veryfast"
    )
    """Of x264: slower ones make smaller files."""

    @model_validator(mode="after")
    def _check_structure(self) -> Self:
        if self.gop_frames % (self.disposable_frames + 1):
            raise ValueError(
                f"gop_frames={self.gop_frames} is not a multiple of disposable_frames + 1 "
                f"= {self.disposable_frames + 1}"
            )
        return self


class LimitsConfig(BaseModel, frozen=True, extra="forbid"):
    """What one input may take; past any of it, it is rejected. Never a matter of wall time."""

    file_gib: PositiveFloat = 4.0
    megapixels: float = Field(default=67.2, gt=0, le=67.2)
    """Of one frame; readers of shards take no larger ones."""
    frames: PositiveInt = 1_000_000
    memory_gib: PositiveFloat = 4.0
    """Of the process that decodes, besides what it takes when idle and the file itself."""
    cpu_s: PositiveInt = 600
    """Processor time, besides one second for each 50 kB of the file."""


class SubsetConfig(BaseModel, frozen=True, extra="forbid"):
    """A fixed draw of one split, the same number per class (protocols 5.1)."""

    split: str = "train"
    samples: PositiveInt
    """Wanted in all; each class gives this divided by the number of classes, rounded up."""
    seed: int = 99999
    """``numpy.random.RandomState(seed).choice`` per class; SEVERE's is 99999."""


class RenderedConfig(BaseModel, frozen=True, extra="forbid"):
    """The synthetic videos that the source ``demo://`` stands for."""

    kind: Literal["motions", "cycles"] = "motions"
    """``motions``: clips of ten motions, with object masks. ``cycles``: longer videos of motions to
    and fro, whose annotations say between which frames their cycles lie; for counting."""
    train_clips: PositiveInt = 1200
    val_clips: PositiveInt = 240
    frames: PositiveInt = 16
    size_px: PositiveInt = 48
    seed: int = 0

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.kind == "cycles" and self.frames < 32:  # rounding would decide how long cycles are
            raise ValueError(f"frames={self.frames} are too few for cycles; set 32 or more")
        return self


class DatasetConfig(BaseModel, frozen=True, extra="forbid"):
    """Where a dataset comes from and how its videos are stored."""

    source: str | tuple[str, ...]
    """Folder of videos, several of them, or ``demo://`` for videos rendered here."""
    catalogue: CatalogueName = "folder"
    """How the source is laid out; ``sigma-pipeline datasets`` lists them. ``folder``: a video's
    class is the sub-folder it lies in; none at the top."""
    annotations: str | None = None
    """Folder of the catalogue's lists; the source folder itself when absent."""
    options: dict[str, str | int | float | bool] = {}
    """What the catalogue lets one choose, such as ``fold: 2``."""
    splits: dict[str, float | str] = {}
    """Of each split, its list file; the catalogue's own names when empty. With ``folder``: its
    share, drawn per class from names alone (0.8 train and 0.2 val when empty); a source whose top
    folders bear exactly the names of the splits is taken as split already."""
    subset: SubsetConfig | None = None
    """Keep just a part of one split."""
    sidecars: bool = False
    """Take ``<stem>.json`` (annotation) and ``<stem>.masks/<frame>.png`` (palette masks) beside a
    video as parts of its sample."""
    rendered: RenderedConfig | None = None
    """Only with ``demo://``."""
    media: Literal["copy", "transcode"] = "copy"
    transcode: TranscodeConfig | None = None
    """Only with ``media: transcode``; its defaults when absent."""
    check: Check = "decode"
    """``decode``: every frame of a video, whose facts are then certain. ``packets``, only with
    ``media: copy``: reads it to its end, but decodes just its first frame, some ten times faster;
    a frame damaged inside is found when training comes to it, and replaced. Files of which packets
    do not tell enough are decoded all the same."""
    min_frames: int = Field(default=2, ge=2)
    limits: LimitsConfig = LimitsConfig()
    max_rejected_fraction: float | None = Field(default=None, ge=0, le=1)
    """Overrides ``shard.max_rejected_fraction`` for this dataset."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The source folders, one or more."""
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def has_lists(self) -> bool:
        """Whether splits are list files, not shares."""
        return not is_drawn(self.catalogue)

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits, the recipe's or the catalogue's own."""
        return tuple(self.splits or default_splits(self.catalogue))

    @property
    def shares(self) -> dict[str, float]:
        """Share of each split, where splits are drawn."""
        splits = self.splits or default_splits(self.catalogue)
        return {name: share for name, share in splits.items() if not isinstance(share, str)}

    @property
    def split_files(self) -> dict[str, str]:
        """List file of each split, relative to the annotations, where there are such."""
        splits = self.splits or default_splits(self.catalogue)
        return {name: file for name, file in splits.items() if isinstance(file, str)}

    @model_validator(mode="before")
    @classmethod
    def _complete_transcode(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("media") == "transcode":
            return {**values, "transcode": values.get("transcode") or {}}
        return values

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        if not self.sources:
            raise ValueError("source is empty; name a folder of videos")
        if self.media == "copy" and self.transcode is not None:
            raise ValueError("transcode goes with media=transcode; set that, or transcode=null")
        if self.check == "packets" and self.media != "copy":
            raise ValueError("check: packets goes with media: copy; transcoding decodes all")
        listed = [name for name, share in self.splits.items() if isinstance(share, str)]
        if listed and (len(listed) < len(self.splits) or not self.has_lists):
            raise ValueError(
                f"splits: catalogue '{self.catalogue}' takes "
                f"{'a list file' if self.has_lists else 'a share'} for each split"
            )
        if self.splits and not listed and not self.has_lists:
            if any(share <= 0 for share in self.shares.values()):
                raise ValueError("splits: each share must be above 0")
            if abs(sum(self.shares.values()) - 1) > 1e-6:
                raise ValueError(f"splits add up to {sum(self.shares.values()):g}, not 1")
        if self.splits and not listed and self.has_lists:
            raise ValueError(f"splits: catalogue '{self.catalogue}' takes a list file for each")
        if self.subset and self.subset.split not in self.split_names:
            raise ValueError(f"subset.split: there is no split '{self.subset.split}'")
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


class AugmentConfig(BaseModel, frozen=True, extra="forbid"):
    """Augmentations of fine-tuning on top of crop and flip (protocols 2)."""

    operations: int = Field(default=0, ge=0)
    """RandAugment: how many operations on a clip, each done with probability 0.5; 0: none."""
    magnitude: float = Field(default=7, ge=0, le=10)
    magnitude_std: float = Field(default=0.5, ge=0)
    erase_probability: float = Field(default=0.0, ge=0, le=1)
    """Of filling one rectangle, the same in all frames, with noise."""


class ClipConfig(BaseModel, frozen=True, extra="forbid"):
    """How a training clip is cut from a video."""

    sampling: Literal["dense", "segments"] = "dense"
    """``dense``: frames ``frame_stride`` apart from a random start; ``segments``: one random frame
    out of each of as many equal parts of the video as the clip has frames (TSN)."""
    frame_stride: PositiveInt = 2
    """Distance of a dense clip's frames in the video."""
    starts: Literal["any", "grid"] = "grid"
    """Where dense clips may start. ``grid``: in transcoded videos just at frames that are decoded
    without their neighbours, which is several times faster; ``any``: at every frame."""
    crop: Literal["resize", "multi_scale", "random_resized"] = "multi_scale"
    """``multi_scale``: corner and centre crops at scales 1, .875, .75, .66 (protocols 1.1);
    ``random_resized``: a part of 1/4 to all of the area, of aspect 3:4 to 4:3 (protocols 2);
    ``resize``: the whole frame, squashed to the square."""
    flip_probability: float = Field(default=0.0, ge=0, le=1)
    clips_per_decode: PositiveInt = 1
    """Clips cut from each decoded video, of the same frames with crops and draws of their own. They
    stand side by side in the order; an epoch is as many times longer."""
    augment: AugmentConfig = AugmentConfig()


class LoaderConfig(BaseModel, frozen=True, extra="forbid"):
    """How clips get to the training process."""

    workers: int = Field(default=2, ge=0)
    """Decoding processes per rank; 0 decodes in the training process."""
    prefetch_batches: PositiveInt = 4
    """Per worker, ahead of the batch in use."""
    decoded_cache_gib: float = Field(default=0.0, ge=0)
    """Memory per decoding process in which whole decoded videos are kept; for small datasets."""
    read_threads: PositiveInt = 4
    """Per decoding process: reads under way at once."""
    range_cache_gib: float = Field(default=0.0, ge=0)
    """Disk of the node (``scratch_dir``) for what was read from the store; 0: none."""
    order_window_shards: int = Field(default=0, ge=0)
    """For slow stores: shuffle shards, then samples within this many shards; 0: all samples."""
    max_bad_fraction: float = Field(default=0.001, ge=0, le=1)
    """Of the samples taken so far, how many may be unreadable and replaced by others before the
    run fails; a few (16) always may."""


class ViewConfig(BaseModel, frozen=True, extra="forbid"):
    """How an evaluation clip is cut: one clip from the middle of each video."""

    num_frames: PositiveInt | None = None
    """Of a clip; as many as the model takes when absent, and never more."""
    sampling: Literal["dense", "segments", "random"] = "dense"
    """``dense``: frames ``frame_stride`` apart; ``segments``: the middle frames of as many equal
    parts of the video as the clip has frames (TSN); ``random``: any frames, in their order, drawn
    once and for all (TimeT)."""
    frame_stride: PositiveInt = 2
    """Distance of a dense clip's frames in the video."""
    seed: NonNegativeInt = 1
    """Of ``random``."""
    crop: Literal["resize", "centre"] = "centre"
    """``centre``: short side resized, then a centred square; ``resize``: squashed to the square."""

    @property
    def views(self) -> int:
        """Clips of each video."""
        return 1

    @property
    def single(self) -> "ViewConfig":
        """The same with one clip of each video."""
        return self


class MultiViewConfig(ViewConfig, frozen=True, extra="forbid"):
    """Several clips of each video, whose predictions are merged (protocols 2)."""

    segments: PositiveInt = 5
    """Clips spread over the video."""
    crops: PositiveInt = 3
    """Squares spread over the long side of each clip; 1 with ``crop: resize``."""

    @property
    def views(self) -> int:
        """Clips of each video."""
        return self.segments * (1 if self.crop == "resize" else self.crops)

    @property
    def single(self) -> ViewConfig:
        """The middle clip of each video, its middle square."""
        return ViewConfig(**{name: getattr(self, name) for name in ViewConfig.model_fields})


AnyViewConfig = ViewConfig | MultiViewConfig
"""As a recipe may have either: what names ``segments`` or ``crops`` has several views."""
