"""From one source file to the members of one sample."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_pipeline.data_prep.catalogue import Video
from sigma_pipeline.data_prep.config import TranscodeConfig
from sigma_pipeline.data_prep.decode import Rejected
from sigma_pipeline.data_prep.keys import printable, sample_key
from sigma_pipeline.data_prep.probe import Probe, probe
from sigma_pipeline.data_prep.sidecars import read_annotation, read_masks, resize_mask
from sigma_pipeline.data_prep.suffixes import VIDEO_SUFFIXES, suffix_of
from sigma_pipeline.data_prep.transcode import transcode
from sigma_pipeline.infra.errors import StageError

MAX_VIDEO_BYTES = 4 << 30
"""A video is held in memory whole, here and wherever it is read."""
# What a file of another suffix is called after its container, by libav's name of the format.
_SUFFIX_OF_CONTAINER = {"mov": ".mp4", "matroska": ".mkv", "mpeg": ".mpg", "mpegvideo": ".mpg"}


@dataclass(frozen=True)
class SampleSettings:
    """What the bytes of a sample depend on besides its source."""

    min_frames: int
    transcode: TranscodeConfig | None
    """Videos are copied as they are when absent."""


@dataclass(frozen=True)
class Sample:
    """One video with its sidecars, ready to be written."""

    video: Video
    key: str
    suffix: str
    """Of the video member, with its dot."""
    sha256: str
    """Of the video member."""
    probe: Probe
    annotation: str | None
    members: tuple[tuple[str, bytes], ...]
    """(end of the name after the key and a dot, content)."""


def prepare(video: Video, settings: SampleSettings) -> Sample:
    """Reads, checks and, where asked for, re-encodes one video.

    Raises:
        Rejected: it cannot become a sample, and why.
        StageError: it is not the file any more that was listed.
    """
    data = _read(video)
    facts = probe(data, settings.min_frames)
    annotation = read_annotation(video.sidecars)
    masks = read_masks(video.sidecars, facts)
    suffix = _suffix(video.file.name, facts)
    if settings.transcode:
        data = transcode(data, facts, settings.transcode)
        facts = probe(data, settings.min_frames)
        masks = {n: resize_mask(mask, facts.width, facts.height) for n, mask in masks.items()}
        suffix = ".mp4"
    return Sample(
        video=video,
        key=sample_key(video.file.name),
        suffix=suffix,
        sha256=hashlib.sha256(data).hexdigest(),
        probe=facts,
        annotation=annotation,
        members=(
            (suffix[1:], data),
            ("json", _description(video, facts, annotation)),
            *((f"{frame:05d}.png", mask) for frame, mask in sorted(masks.items())),
        ),
    )


def _read(video: Video) -> bytes:
    file = video.file
    if file.size > MAX_VIDEO_BYTES:
        raise Rejected("too_large", f"{file.size} bytes, the limit is {MAX_VIDEO_BYTES}")
    try:
        data = Path(file.path).read_bytes()
    except FileNotFoundError as error:
        raise _changed(video, "is gone") from error
    except OSError as error:
        raise Rejected("unreadable", f"cannot be read: {error.strerror}") from error
    if len(data) != file.size:
        raise _changed(video, f"has {len(data)} bytes instead of {file.size}")
    return data


def _changed(video: Video, how: str) -> StageError:
    return StageError(
        f"source file {video.file.path!r} {how}: it changed after the stage had begun; "
        "run the same command again"
    )


def _suffix(name: str, facts: Probe) -> str:
    suffix = suffix_of(name)
    if suffix in VIDEO_SUFFIXES:
        return suffix
    container = facts.container.split(",")[0]
    return _SUFFIX_OF_CONTAINER.get(container, f".{container}")


def _description(video: Video, facts: Probe, annotation: str | None) -> bytes:
    """The sample's JSON member, for readers that have no index."""
    value: dict[str, Any] = {
        "source": printable(video.file.name),
        "class_name": video.class_name,
        "label": video.label,
        "frames": facts.frames,
        "fps": facts.fps,
        "width": facts.width,
        "height": facts.height,
        "rotation": facts.rotation,
        "annotation": None if annotation is None else json.loads(annotation),
    }
    return json.dumps(value, sort_keys=True).encode()
