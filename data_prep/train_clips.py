"""Training clips by position in the order, for the decoding processes."""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from sigma_pipeline.data_prep.batches import Batch, Span
from sigma_pipeline.data_prep.clip_plan import ClipPlan, Group, groups_of
from sigma_pipeline.data_prep.erasing import erase
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.order import Order
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.data_prep.rand_augment import rand_augment
from sigma_pipeline.data_prep.replacement import Replaced, stand_ins
from sigma_pipeline.data_prep.verdicts import BadSample
from sigma_pipeline.infra.errors import StageError

Clips = UInt8[Tensor, "clips 3 frames size size"]
Target = NDArray[np.float32] | None


class _Filled(NamedTuple):
    """What clips of one sample were filled with."""

    sample: int
    target: Target
    bad: list[Replaced]
    """Samples in whose place it was taken."""


class TrainClips:
    """Reads, decodes and cuts what ``order`` and ``plan`` say. Picklable."""

    def __init__(self, pool: Pool, reader: FrameReader, order: Order, plan: ClipPlan) -> None:
        self._pool = pool
        self._reader = reader
        self._order = order
        self._plan = plan

    def __getitem__(self, span: Span) -> Batch | StageError:
        """The micro-batch of ``span``; the error when it cannot be made."""
        positions = np.arange(span.first, span.last, dtype=np.int64)
        samples = self._order.samples(span.epoch, positions)
        groups = list(groups_of(span, self._plan.clip.clips_per_decode))
        self._reader.prefetch([samples.item(group.positions[0] - span.first) for group in groups])
        size = self._plan.frame_size_px
        clip = torch.empty(len(samples), 3, self._plan.num_frames, size, size, dtype=torch.uint8)
        targets: list[Target] = []
        replaced: list[Replaced] = []
        try:
            for group in groups:
                slots = slice(group.positions.start - span.first, group.positions.stop - span.first)
                filled = self._fill(clip[slots], span.epoch, group, samples.item(slots.start))
                samples[slots] = filled.sample
                targets += [filled.target] * len(group.positions)
                replaced += filled.bad
        except StageError as error:
            return error
        return Batch(
            clip,
            span.epoch,
            torch.from_numpy(positions),
            torch.from_numpy(samples),
            torch.tensor([self._pool.source(sample).label for sample in samples.tolist()]),
            tuple(replaced),
            _stacked(targets),
        )

    def _fill(self, clips: Clips, epoch: int, group: Group, sample: int) -> _Filled:
        """Fills ``clips`` from ``sample``, or from the first of its stand-ins that can be read.

        A group that is cut by micro-batches counts its bad samples just where its first position
        is.

        Raises:
            StageError: the store does not answer, or all are bad.
        """
        bad: list[Replaced] = []
        for tried in chain([sample], self._stand_ins(epoch, group, sample)):
            try:
                target = self._read(clips, epoch, group, tried)
            except BadSample as error:
                bad.append(self._replaced(tried, error, epoch, group))
                continue
            return _Filled(tried, target, bad if group.first in group.positions else [])
        raise StageError(
            f"{bad[0].reason}; and so it went with the {len(bad) - 1} samples that were to take "
            f"its place. See what is broken with: sigma-pipeline shards verify "
            f"{bad[0].dataset}/{bad[0].split} (the same --config and --set)"
        )

    def _read(self, clips: Clips, epoch: int, group: Group, sample: int) -> Target:
        """Fills ``clips``; what is to be learned from each."""
        plan, source = self._plan, self._pool.source(sample)
        crops = [plan.crop(source, epoch, position) for position in group.positions]
        frames = plan.frames(sample, source, epoch, group.first)
        self._reader.clips(sample, frames, crops, plan.frame_size_px, out=clips)
        for clip, position in zip(clips, group.positions, strict=True):
            self._augment(clip, epoch, position)
        return plan.target(sample, source, epoch, group.first, frames)

    def _augment(
        self, clip: UInt8[Tensor, "3 frames size size"], epoch: int, position: int
    ) -> None:
        """RandAugment, then random erasing, in place (protocols 2); neither by default."""
        augment = self._plan.clip.augment
        if augment.operations:
            frames = clip.permute(1, 2, 3, 0).contiguous().numpy()
            draws = self._plan.draws(epoch, position, "augment")
            changed = torch.from_numpy(rand_augment(frames, augment, draws))
            clip.copy_(changed.permute(3, 0, 1, 2))
        if augment.erase_probability:
            erase(clip, augment.erase_probability, self._plan.draws(epoch, position, "erase"))

    def _stand_ins(self, epoch: int, group: Group, sample: int) -> Iterator[int]:
        """Others of the same dataset."""
        index, row = self._pool.locate(sample)
        first = sample - row
        candidates = range(first, first + len(index))
        return stand_ins(self._plan.seed, epoch, group.first, candidates)

    def _replaced(self, sample: int, error: BadSample, epoch: int, group: Group) -> Replaced:
        index, _ = self._pool.locate(sample)
        return Replaced(
            dataset=index.ref.name,
            split=index.ref.split,
            key=error.key,
            tar=error.tar,
            source=error.source,
            reason=str(error),
            epoch=epoch,
            position=group.first,
        )


def _stacked(targets: list[Target]) -> Tensor | None:
    """One row for each clip; None where a plan has no targets."""
    known = [target for target in targets if target is not None]
    return torch.from_numpy(np.stack(known)) if known else None
