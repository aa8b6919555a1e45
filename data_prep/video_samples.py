"""From one video file, or a segment of it, to the members of one sample."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from sigma_pipeline.data_prep.config import LimitsConfig
from sigma_pipeline.data_prep.decode import visit_frames
from sigma_pipeline.data_prep.description import describe
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.keys import sample_key
from sigma_pipeline.data_prep.probe import (
    Probe,
    examine,
    examine_packets,
    frame_times_s,
    probe_of,
    probe_of_packets,
    probe_transcoded,
)
from sigma_pipeline.data_prep.sample import Sample, SampleSettings
from sigma_pipeline.data_prep.segments import frames_of
from sigma_pipeline.data_prep.sidecars import read_annotation, read_masks, resize_mask
from sigma_pipeline.data_prep.source_bytes import read_source
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.suffixes import VIDEO_SUFFIXES, suffix_of
from sigma_pipeline.data_prep.transcode import Transcoder
from sigma_pipeline.data_prep.verdicts import Rejected

_GIB = 1 << 30
# What a file of another suffix is called after its container, by libav's name of the format.
_SUFFIX_OF_CONTAINER = {"mov": ".mp4", "matroska": ".mkv", "mpeg": ".mpg", "mpegvideo": ".mpg"}


@dataclass(frozen=True)
class _Source:
    """A whole file, and what was found in it."""

    data: bytes
    probe: Probe
    times_s: list[float]
    """Of its frames."""


@dataclass(frozen=True)
class _Stored:
    """What is kept of the video."""

    data: bytes
    suffix: str
    probe: Probe
    """Its frames are those of the segment."""
    masks: Mapping[int, bytes]
    first_frame: int = 0
    frame_grid: int = 1


def prepare_video(item: Item, settings: SampleSettings) -> Sample:
    """Reads, checks and, where asked for, re-encodes one video.

    A copy of a segment is one of the whole file; ``first_frame`` says where the segment begins. A
    transcode holds just the segment's frames.

    Raises:
        Rejected: it cannot become a sample, and why.
        StageError: it is not the file any more that was listed.
    """
    annotation = item.annotation or read_annotation(item.sidecars)
    stored = _transcoded(item, settings) if settings.transcode else _copied(item, settings)
    return Sample(
        item=item,
        key=sample_key(item.name),
        suffix=stored.suffix,
        sha256=hashlib.sha256(stored.data).hexdigest(),
        probe=stored.probe,
        annotation=annotation,
        members=(
            (stored.suffix[1:], stored.data),
            ("json", describe(item, stored.probe, annotation)),
            *((f"{frame:05d}.png", mask) for frame, mask in sorted(stored.masks.items())),
        ),
        first_frame=stored.first_frame,
        frame_grid=stored.frame_grid,
    )


def _copied(item: Item, settings: SampleSettings) -> _Stored:
    source = _source(item, settings)
    frames = _frames_of(item, settings, source)
    return _Stored(
        data=source.data,
        suffix=_suffix(item.files[0].name, source.probe),
        probe=replace(source.probe, frames=len(frames)),
        masks=read_masks(item.sidecars, source.probe),
        first_frame=frames.start,
    )


def _transcoded(item: Item, settings: SampleSettings) -> _Stored:
    assert settings.transcode
    with Transcoder(settings.transcode) as transcoder:
        if item.segment:
            source = _source(item, settings)
            frames = _frames_of(item, settings, source)
            facts = source.probe
            keyframes, pts = facts.keyframes, facts.keyframe_pts
            visit = transcoder.add
            visit_frames(source.data, frames, keyframes=keyframes, keyframe_pts=pts, visit=visit)
        else:
            # The whole is checked by the same pass that encodes it: decoding twice would cost.
            data = _read(item.files[0], settings.limits)
            survey = examine(data, settings.min_frames, settings.limits, visit=transcoder.add)
            facts = probe_of(data, survey)
            frames = range(facts.frames)
        masks = read_masks(item.sidecars, facts)
        data = transcoder.finish(facts.fps)
    grid = settings.transcode.disposable_frames + 1
    small, grid = probe_transcoded(data, frames=len(frames), frame_grid=grid)
    resized = {
        number - frames.start: resize_mask(mask, small.width, small.height)
        for number, mask in masks.items()
        if number in frames
    }
    return _Stored(data, ".mp4", small, resized, frame_grid=grid)


def _frames_of(item: Item, settings: SampleSettings, source: _Source) -> range:
    frames = frames_of(item.segment, source.times_s)
    if len(frames) < settings.min_frames:
        detail = f"frames in the segment: {len(frames)}; needed: {settings.min_frames}"
        raise Rejected("too_short", detail)
    return frames


def _source(item: Item, settings: SampleSettings) -> _Source:
    """The file of ``item``, which is kept at hand where more segments of it may follow."""
    inspect = _inspected_last if item.segment else _inspected_last.__wrapped__
    return inspect(item.files[0], settings)


@lru_cache(maxsize=1)
def _inspected_last(file: SourceFile, settings: SampleSettings) -> _Source:
    data = _read(file, settings.limits)
    if settings.check == "packets" and (
        found := examine_packets(data, settings.min_frames, settings.limits)
    ):
        return _Source(data, probe_of_packets(found), frame_times_s(found))
    facts = examine(data, settings.min_frames, settings.limits)
    return _Source(data, probe_of(data, facts), frame_times_s(facts))


def _read(file: SourceFile, limits: LimitsConfig) -> bytes:
    if file.size > limits.file_gib * _GIB:
        raise Rejected("too_large", f"{file.size} bytes, the limit is {limits.file_gib:g} GiB")
    return read_source(file)


def _suffix(name: str, facts: Probe) -> str:
    suffix = suffix_of(name)
    if suffix in VIDEO_SUFFIXES:
        return suffix
    container = facts.container.split(",")[0]
    return _SUFFIX_OF_CONTAINER.get(container, f".{container}")
