"""One sample, ready to be written: what ``samples.prepare`` makes of an item."""

from dataclasses import dataclass, field

from sigma_pipeline.data_prep.config import Check, LimitsConfig, TranscodeConfig
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.probe import Probe


@dataclass(frozen=True)
class SampleSettings:
    """What the bytes of a sample depend on besides its source."""

    min_frames: int
    transcode: TranscodeConfig | None
    """Media are copied as they are when absent."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    check: Check = "decode"


@dataclass(frozen=True)
class Sample:
    """One item with its sidecars, and what its members say about it."""

    item: Item
    key: str
    suffix: str
    """Of the video or the image; of the frames, which all have the same one. With its dot."""
    sha256: str
    """Of the video or the image; of all frames one after another."""
    probe: Probe
    """Of what is stored; ``frames`` are those of the segment, where the sample is just a part."""
    annotation: str | None
    members: tuple[tuple[str, bytes], ...]
    """(end of the name after the key and a dot, content)."""
    first_frame: int = 0
    """See ``rows.SampleRow``."""
    frame_grid: int = 1
    """See ``rows.SampleRow``."""
