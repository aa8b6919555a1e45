"""From a folder of pictures, one per frame, to the members of one sample."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from sigma_pipeline.data_prep.config import TranscodeConfig
from sigma_pipeline.data_prep.description import describe
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.keys import sample_key
from sigma_pipeline.data_prep.pictures import PictureFacts, check_picture, rgb_picture
from sigma_pipeline.data_prep.probe import Probe, probe_transcoded
from sigma_pipeline.data_prep.sample import Sample, SampleSettings
from sigma_pipeline.data_prep.sidecars import read_frame_masks, resize_mask
from sigma_pipeline.data_prep.source_bytes import read_source
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.transcode import transcode_pictures
from sigma_pipeline.data_prep.verdicts import Rejected

_CODEC_OF_SUFFIX = {".jpg": "mjpeg", ".png": "png"}


def prepare_frames(item: Item, settings: SampleSettings) -> Sample:
    """Reads and checks the frames and masks of ``item``, and keeps their bytes.

    Members are ``<frame>.jpg`` (or ``.png``) by place in ``item.files``, then ``json``, then masks
    ``<frame>.png`` (``<frame>.mask.png`` beside PNG frames). The rate is ``fps`` of the annotation,
    else 0: unknown. With ``settings.transcode``, the frames become one video, so that the sample's
    item is one, too, and masks are resized to it.

    Raises:
        Rejected: a frame is damaged or of another size or kind than the first, a mask does not fit,
            or there are too few or too many of them.
        StageError: a file is not the one any more that was listed.
    """
    assert item.segment is None, "lists name the frames of a part, not its time"
    _check_limits(item, settings)
    frames, facts = _read_frames(item.files, settings.limits.megapixels)
    places = {PurePosixPath(file.name).stem: place for place, file in enumerate(item.files)}
    masks = read_frame_masks(item.sidecars, places, (facts.width, facts.height))
    found = _probe_of(item, facts)
    if settings.transcode:
        return _as_video(item, frames, masks, found.fps, settings.transcode)
    mask_suffix = "mask.png" if facts.suffix == ".png" else "png"
    return Sample(
        item=item,
        key=sample_key(item.name),
        suffix=facts.suffix,
        sha256=_joint_sha256(frames),
        probe=found,
        annotation=item.annotation,
        members=(
            *((f"{place:05d}{facts.suffix}", frame) for place, frame in enumerate(frames)),
            ("json", describe(item, found, item.annotation)),
            *((f"{place:05d}.{mask_suffix}", mask) for place, mask in sorted(masks.items())),
        ),
    )


def _as_video(
    item: Item,
    frames: Sequence[bytes],
    masks: Mapping[int, bytes],
    fps: float,
    config: TranscodeConfig,
) -> Sample:
    data = transcode_pictures(map(rgb_picture, frames), fps, config)
    grid = config.disposable_frames + 1
    facts, grid = probe_transcoded(data, frames=len(frames), frame_grid=grid)
    video = replace(item, media="video")
    resized = {place: resize_mask(mask, facts.width, facts.height) for place, mask in masks.items()}
    return Sample(
        item=video,
        key=sample_key(item.name),
        suffix=".mp4",
        sha256=hashlib.sha256(data).hexdigest(),
        probe=facts,
        annotation=item.annotation,
        members=(
            ("mp4", data),
            ("json", describe(video, facts, item.annotation)),
            *((f"{place:05d}.png", mask) for place, mask in sorted(resized.items())),
        ),
        frame_grid=grid,
    )


def _check_limits(item: Item, settings: SampleSettings) -> None:
    limits, count = settings.limits, len(item.files)
    if count < settings.min_frames:
        raise Rejected("too_short", f"frames: {count}; needed: {settings.min_frames}")
    if count > limits.frames:
        raise Rejected("too_large", f"frames: {count}, the limit is {limits.frames}")
    if item.source_bytes > limits.file_gib * (1 << 30):
        raise Rejected(
            "too_large",
            f"frames and masks have {item.source_bytes} bytes, the limit is {limits.file_gib} GiB",
        )


def _read_frames(
    files: Sequence[SourceFile], max_megapixels: float
) -> tuple[list[bytes], PictureFacts]:
    """The content of all frames, and what each of them is."""
    frames: list[bytes] = []
    first: PictureFacts | None = None
    for file in files:
        data = read_source(file)
        name = PurePosixPath(file.name).name
        facts = check_picture(f"frame {name}", data, max_megapixels)
        first = first or facts
        if facts != first:
            raise Rejected("corrupt", f"frame {name} is {_text(facts)}, the first {_text(first)}")
        frames.append(data)
    assert first, "limits ask for some frames"
    return frames, first


def _probe_of(item: Item, facts: PictureFacts) -> Probe:
    annotation = json.loads(item.annotation) if item.annotation else {}
    return Probe(
        frames=len(item.files),
        fps=float(annotation.get("fps", 0)),
        width=facts.width,
        height=facts.height,
        rotation=0,
        keyframes=(0,),
        keyframe_pts=(0,),
        codec=_CODEC_OF_SUFFIX[facts.suffix],
        container="",
    )


def _joint_sha256(frames: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(frame)
    return digest.hexdigest()


def _text(facts: PictureFacts) -> str:
    return f"{facts.width} x {facts.height} {facts.suffix}"
