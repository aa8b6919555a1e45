"""What a trained counter finds in test videos, each process of the gang in its share of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor

from sigma_pipeline.data_prep.augment import centre_square
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.verdicts import BadSample
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.benchmarks.benchmark import Subject
from sigma_pipeline.jobs.benchmarks.cycle_anchors import best_lengths
from sigma_pipeline.jobs.benchmarks.cycle_search import FoundCycles, Search, find_cycles
from sigma_pipeline.jobs.benchmarks.cycle_training import CycleTuning
from sigma_pipeline.jobs.benchmarks.cycle_videos import marked_cycles
from sigma_pipeline.jobs.benchmarks.cycles import Cycles, Floats, window_frames
from sigma_pipeline.jobs.benchmarks.fine_tuned_views import fine_tuned_model, shared_out
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.train_request import RankPlace
from sigma_pipeline.model.classifier import mean_token
from sigma_pipeline.model.cycle_counter import CycleCounter, right_and_offsets

_MOMENTS = 64
"""Of a video, whose likeness to each other is shown."""
_KEPT_FRAMES = 2048
"""Of a video in memory, at most: of 224 pixels, 300 MB. Longer ones are thinned out."""
_DECODED_FRAMES = 256
"""At once: until they are cut and resized, they are as large as the video's."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class CountPass:
    """A trained counter, and the videos that it is to see."""

    root_uri: str
    scratch_dir: str
    tuning: CycleTuning
    commit: Commit
    ref: DatasetRef
    positions: tuple[int, ...]
    """Of the videos in their split; cycles are marked in all."""
    search: Search
    batch_clips: int
    is_bf16: bool


def found_cycles(subject: Subject, given: CountPass) -> list[FoundCycles]:
    """What is found between the first and the last boundary of each video.

    Raises:
        StageError: a sample cannot be read.
    """
    lengths = shared_out(subject, _found, len(given.positions), given).astype(np.float64)
    cycles = _cycles(subject.test, given.positions)
    return [
        FoundCycles(of_video, each.num_frames)
        for of_video, each in zip(lengths, cycles, strict=True)
    ]


def likeness(subject: Subject, given: CountPass, widths: Sequence[float]) -> Array:
    """How alike moments of each video are to the encoder: cosines [videos, moments, moments].

    Of the mean tokens of short clips, ``widths`` frames long, without what they have in common.

    Raises:
        StageError: a sample cannot be read.
    """
    squares: Array = shared_out(subject, _likeness, len(given.positions), given, tuple(widths))
    return squares


class _Video:
    """The marked part of one video, decoded."""

    def __init__(self, reader: FrameReader, sample: int, cycles: Cycles, size_px: int) -> None:
        numbers = np.arange(cycles.num_frames)
        if len(numbers) > _KEPT_FRAMES:
            numbers = np.linspace(0, len(numbers) - 1, _KEPT_FRAMES).round().astype(np.int64)
        self.num_frames = cycles.num_frames
        self._numbers = numbers
        wanted = np.minimum(cycles.first + numbers, reader.num_frames(sample) - 1)
        try:
            square = centre_square(*reader.size(sample))
            parts = [
                reader.clips(sample, wanted[at : at + _DECODED_FRAMES], [square], size_px)[0]
                for at in range(0, len(wanted), _DECODED_FRAMES)
            ]
        except BadSample as error:
            raise StageError(str(error)) from error
        self._frames = torch.cat(parts, dim=1)

    def clips(
        self, frames: npt.NDArray[np.int64]
    ) -> UInt8[Tensor, "clips channels frames height width"]:
        """Clips of frames [clips, frames], counted from the first boundary."""
        places = np.searchsorted(self._numbers, frames).clip(max=len(self._numbers) - 1)
        picked = self._frames[:, torch.from_numpy(places.ravel())]
        clips: Tensor = picked.view(3, *frames.shape, *picked.shape[2:]).movedim(1, 0)
        return clips


class _Eye:
    """The trained counter on its device, and the videos of a share."""

    def __init__(self, given: CountPass, place: RankPlace) -> None:
        storage = open_storage(given.root_uri)
        model, self._device = fine_tuned_model(storage, given.tuning, given.commit, place)
        assert isinstance(model, CycleCounter)
        self._model = model
        self._given = given
        self._index = Index.load(storage, given.ref, Path(given.scratch_dir))
        self._reader = FrameReader(storage, self._index)
        self._cycles = _cycles(self._index, given.positions)

    def video(self, number: int) -> _Video:
        """One of ``CountPass.positions``."""
        size_px = self._given.tuning.model.frame_size_px
        sample = self._given.positions[number]
        return _Video(self._reader, sample, self._cycles[number], size_px)

    def corrected(self, video: _Video, positions: Floats, guesses: Floats) -> tuple[Floats, Floats]:
        """See ``CycleModel``."""
        tuning = self._given.tuning
        half = tuning.num_frames
        frames = window_frames(positions, guesses, video.num_frames, half, tuning.context)
        clips = frames.reshape(len(frames), 2 * half)
        step = max(1, self._given.batch_clips // 2)
        parts = [self._said(video, clips[at : at + step]) for at in range(0, len(clips), step)]
        is_right, offsets = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        lengths, confidence = best_lengths(guesses, is_right, offsets)
        return lengths, confidence.mean(axis=1)

    def features(self, video: _Video, frames: npt.NDArray[np.int64]) -> Array:
        """Mean tokens [clips, dim] of clips of frames [clips, frames]."""
        step = self._given.batch_clips
        rows = []
        for at in range(0, len(frames), step):
            clip = video.clips(frames[at : at + step]).to(self._device)
            with self._autocast():
                tokens = self._model.encoder.encode_unnormalized(clip)
            rows.append(mean_token(tokens).float().cpu().numpy())
        return np.concatenate(rows)

    def _said(self, video: _Video, frames: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        with self._autocast():
            said = self._model(video.clips(frames).to(self._device))
        is_right, offsets = right_and_offsets(said)
        return is_right.double().cpu().numpy(), offsets.double().cpu().numpy()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._given.is_bf16)


@torch.inference_mode()
def _found(place: RankPlace, samples: range, given: CountPass) -> Array:
    """Lengths [videos, parts, sides]."""
    rows = np.empty((len(samples), given.search.parts, 2), dtype=np.float32)
    eye = _Eye(given, place)
    for row, number in zip(rows, samples, strict=True):
        video = eye.video(number)
        model = partial(eye.corrected, video)
        row[:] = find_cycles(model, video.num_frames, given.search).lengths
    return rows


@torch.inference_mode()
def _likeness(
    place: RankPlace, samples: range, given: CountPass, widths: tuple[float, ...]
) -> Array:
    likeness = np.empty((len(samples), _MOMENTS, _MOMENTS), dtype=np.float32)
    eye, steps = _Eye(given, place), np.linspace(-0.5, 0.5, given.tuning.num_frames)
    for square, number in zip(likeness, samples, strict=True):
        video = eye.video(number)
        frames = _moments(video.num_frames)[:, None] + widths[number] * steps
        shown = np.clip(frames.round(), 0, video.num_frames - 1).astype(np.int64)
        features = eye.features(video, shown)
        features -= features.mean(axis=0)
        features /= np.linalg.norm(features, axis=1, keepdims=True).clip(min=1e-12)
        square[:] = features @ features.T
    return likeness


def _moments(num_frames: int) -> Floats:
    """[moments] positions, spread over the marked part."""
    middles = np.arange(_MOMENTS, dtype=np.float64) + 0.5
    return middles * (num_frames / _MOMENTS)


def _cycles(index: Index, positions: Sequence[int]) -> list[Cycles]:
    """Of samples that have some."""
    marked = marked_cycles(index)
    cycles = [marked[position] for position in positions]
    return [each for each in cycles if each is not None]
