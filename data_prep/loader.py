"""Training batches: the same global batches for any number of ranks and workers.

What a clip holds follows from (seed, epoch, position) and the index alone. So "where were we" is
an epoch and a global batch, and going on from there is exact.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from sigma_pipeline.data_prep.augment import cut, training_crop
from sigma_pipeline.data_prep.clips import clip_frames
from sigma_pipeline.data_prep.config import ClipConfig, LoaderConfig
from sigma_pipeline.data_prep.draws import generator
from sigma_pipeline.data_prep.frames import FrameReader, decoded_gib
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.order import GlobalOrder, accumulation_steps
from sigma_pipeline.data_prep.workers import read_ahead
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips and where they come from."""

    clip: UInt8[Tensor, "batch 3 frames height width"]
    """RGB; normalized later, on the device."""
    epoch: int
    positions: Int64[Tensor, " batch"]
    """Places in the order of the epoch; with the epoch, what masks are drawn from."""
    samples: Int64[Tensor, " batch"]
    """Rows of the index."""
    labels: Int64[Tensor, " batch"]
    """-1 where there is none."""

    def pin_memory(self) -> Self:
        """A copy in page-locked memory; the loader asks for it where there is a GPU."""
        tensors = (self.positions, self.samples, self.labels)
        pinned = (tensor.pin_memory() for tensor in tensors)
        return type(self)(self.clip.pin_memory(), self.epoch, *pinned)


class Span(NamedTuple):
    """Positions [first, last) of an epoch: one micro-batch."""

    epoch: int
    first: int
    last: int


@dataclass(frozen=True)
class BatchPlan:
    """One rank's micro-batches, in order, without end."""

    batches_per_epoch: int
    global_batch_clips: int
    micro_batch_clips: int
    rank: int
    world_size: int
    start_epoch: int = 0
    start_batch: int = 0

    def __iter__(self) -> Iterator[Span]:
        """Ranks take consecutive shares of a global batch; micro-batches cut a share in order."""
        share = self.global_batch_clips // self.world_size
        for number in count(self.start_epoch * self.batches_per_epoch + self.start_batch):
            epoch, batch = divmod(number, self.batches_per_epoch)
            start = batch * self.global_batch_clips + self.rank * share
            for first in range(start, start + share, self.micro_batch_clips):
                yield Span(epoch, first, first + self.micro_batch_clips)


class TrainClips:
    """Random clips by place in the order; picklable, for the decoding processes."""

    def __init__(
        self,
        reader: FrameReader,
        labels: NDArray[np.int64],
        order: GlobalOrder,
        *,
        clip: ClipConfig,
        num_frames: int,
        frame_size_px: int,
        seed: int,
    ) -> None:
        self._reader = reader
        self._order = order
        self._labels = labels
        self._clip = clip
        self._num_frames = num_frames
        self._frame_size_px = frame_size_px
        self._seed = seed

    def __getitem__(self, span: Span) -> Batch | StageError:
        """The micro-batch of ``span``; the error when a sample cannot be read."""
        positions = np.arange(span.first, span.last, dtype=np.int64)
        samples = self._order.samples(span.epoch, positions)
        size = self._frame_size_px
        clip = torch.empty(len(samples), 3, self._num_frames, size, size, dtype=torch.uint8)
        try:
            for slot, (position, sample) in enumerate(zip(positions, samples, strict=True)):
                clip[slot] = self._cut(span.epoch, int(position), int(sample))
        except StageError as error:
            return error
        return as_batch(clip, span.epoch, positions, samples, self._labels)

    def _cut(self, epoch: int, position: int, sample: int) -> UInt8[Tensor, "3 frames size size"]:
        start_draw = generator(self._seed, epoch, position, "start").random()
        wanted = clip_frames(
            self._reader.num_frames(sample), self._num_frames, self._clip.frame_stride, start_draw
        )
        frames = self._reader.frames(sample, wanted)
        _, height, width, _ = frames.shape
        crop_draws = generator(self._seed, epoch, position, "crop")
        crop = training_crop(height, width, self._frame_size_px, self._clip, crop_draws)
        return cut(frames, crop, self._frame_size_px)


class TrainLoader:
    """This rank's share of every global batch of a run.

    Raises:
        ConfigError: the split has fewer samples than a global batch, or ranks x micro-batch x
            accumulation cannot be the global batch.
    """

    def __init__(
        self,
        storage: Storage,
        index: Index,
        *,
        clip: ClipConfig,
        loader: LoaderConfig,
        num_frames: int,
        frame_size_px: int,
        seed: int,
        global_batch_clips: int,
        micro_batch_clips: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.accumulation_steps = accumulation_steps(
            global_batch_clips, micro_batch_clips, world_size
        )
        order = GlobalOrder(len(index), seed)
        self.batches_per_epoch = order.batches_per_epoch(global_batch_clips)
        if rank == 0:
            _warn_of_small_cache(index, loader.decoded_cache_gib)
        self._loader = loader
        self._shares = (global_batch_clips, micro_batch_clips, rank, world_size)
        self._clips = TrainClips(
            FrameReader(storage, index, loader.decoded_cache_gib),
            index.labels,
            order,
            clip=clip,
            num_frames=num_frames,
            frame_size_px=frame_size_px,
            seed=seed,
        )

    def micro_batches(self, start_epoch: int, start_batch: int) -> Iterator[list[Batch]]:
        """From one global batch on, without end: this rank's micro-batches of each.

        Args:
            start_epoch: counted from 0.
            start_batch: global batch within the epoch; one past the last means the next epoch's
                first.

        Raises:
            StageError: a sample cannot be read (names it), or a decoding process was killed.
        """
        plan = BatchPlan(self.batches_per_epoch, *self._shares, start_epoch, start_batch)
        micro_batches = read_ahead(
            self._clips,
            plan,
            workers=self._loader.workers,
            prefetch=self._loader.prefetch_batches,
        )
        while True:
            yield list(islice(micro_batches, self.accumulation_steps))


def _warn_of_small_cache(index: Index, cache_gib: float) -> None:
    needed_gib = decoded_gib(index)
    if 0 < cache_gib < needed_gib:
        log.warning(
            "decoded_cache_gib is %g, but all videos take %.1f GiB in each decoding process: many "
            "are decoded whole and soon dropped, where 0 would decode just the frames of a clip",
            cache_gib,
            needed_gib,
        )


def as_batch(
    clip: UInt8[Tensor, "batch 3 frames height width"],
    epoch: int,
    positions: NDArray[np.int64],
    samples: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> Batch:
    """The batch of clips that stand at ``positions``, with the labels of their samples."""
    return Batch(
        clip,
        epoch,
        torch.from_numpy(positions),
        torch.from_numpy(samples),
        torch.from_numpy(labels[samples]),
    )
