"""What a fine-tuned model says of boxes, shared out over the gang that trained it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import NDArray
from torch import Tensor

from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.workers import read_ahead
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.benchmarks.benchmark import Subject
from sigma_pipeline.jobs.benchmarks.box_clips import BoxClips
from sigma_pipeline.jobs.benchmarks.box_training import BoxTuning
from sigma_pipeline.jobs.benchmarks.fine_tuned_views import fine_tuned_model, shared_out
from sigma_pipeline.jobs.benchmarks.scored_seconds import GivenBoxes
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.decoded import decoders
from sigma_pipeline.jobs.train_request import RankPlace

_PREFETCH_BATCHES = 2


@dataclass(frozen=True, kw_only=True)
class BoxPass:
    """A trained model, and which boxes it is to see."""

    root_uri: str
    scratch_dir: str
    tuning: BoxTuning
    commit: Commit
    ref: DatasetRef
    boxes: GivenBoxes
    batch_clips: int
    is_bf16: bool


def box_outputs(
    subject: Subject, tuning: BoxTuning, commit: Commit, boxes: GivenBoxes
) -> npt.NDArray[np.float32]:
    """Probabilities [boxes, classes] of boxes of the test split.

    Raises:
        StageError: a sample cannot be read.
    """
    given = BoxPass(
        root_uri=subject.storage.root_uri,
        scratch_dir=str(subject.scratch_dir),
        tuning=tuning,
        commit=commit,
        ref=subject.test.ref,
        boxes=boxes,
        batch_clips=subject.batch_clips,
        is_bf16=subject.precision == "bf16_autocast",
    )
    return shared_out(subject, _outputs, len(boxes), given)


@torch.inference_mode()
def _outputs(place: RankPlace, chosen: range, given: BoxPass) -> npt.NDArray[np.float32]:
    """Of the boxes ``chosen``; a second that two processes share is seen by both."""
    storage, tuning, boxes = open_storage(given.root_uri), given.tuning, given.boxes
    model, device = fine_tuned_model(storage, tuning, given.commit, place)
    reader = FrameReader(storage, Index.load(storage, given.ref, Path(given.scratch_dir)))
    clips = BoxClips(
        reader,
        num_frames=tuning.num_frames,
        stride=tuning.clip.frame_stride,
        frame_size_px=tuning.model.frame_size_px,
    )
    seconds = np.unique(boxes.box_seconds[chosen.start : chosen.stop])
    parts = list(_of_one_movie(boxes, seconds, given.batch_clips))
    places = [(int(boxes.samples[part[0]]), boxes.frames[part]) for part in parts]
    outputs = []
    read = read_ahead(clips, places, workers=decoders(), prefetch=_PREFETCH_BATCHES)
    for part, clip in zip(parts, read, strict=True):
        corners, is_box = _padded(boxes, part)
        with torch.autocast(device.type, torch.bfloat16, enabled=given.is_bf16):
            logits = model(clip.to(device), corners.to(device))
        outputs.append(logits.float().sigmoid().cpu()[is_box].numpy())
    start = chosen.start - int(boxes.first_box[seconds[0]])
    rows: npt.NDArray[np.float32] = np.concatenate(outputs)[start : start + len(chosen)]
    return rows


def _of_one_movie(
    boxes: GivenBoxes, seconds: NDArray[np.int64], limit: int
) -> Iterator[NDArray[np.int64]]:
    """``seconds`` in runs of at most ``limit`` of the same movie, whose frames lie together."""
    ends = np.flatnonzero(np.diff(boxes.samples[seconds])) + 1
    for of_movie in np.split(seconds, ends):
        yield from np.split(of_movie, range(limit, len(of_movie), limit))


def _padded(boxes: GivenBoxes, seconds: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Corners [seconds, boxes, 4] with as many boxes in all as one has most; which are there."""
    counts = torch.from_numpy(np.diff(boxes.first_box)[seconds])
    is_box = torch.arange(int(counts.max())) < counts[:, None]
    corners = torch.zeros(*is_box.shape, 4)
    first, end = boxes.first_box[seconds[0]], boxes.first_box[seconds[-1] + 1]
    corners[is_box] = torch.from_numpy(boxes.corners[first:end]).float()
    return corners, is_box
