"""Batches of clips, and how the clips of an epoch are shared out to ranks and micro-batches."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from sigma_pipeline.data_prep.replacement import Replaced


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips and where they come from."""

    clip: UInt8[Tensor, "batch 3 frames height width"]
    """RGB; normalized later, on the device."""
    epoch: int
    positions: Int64[Tensor, " batch"]
    """Places in the order of the epoch; with the epoch, what masks are drawn from."""
    samples: Int64[Tensor, " batch"]
    """Rows of the index, or of several one after another."""
    labels: Int64[Tensor, " batch"]
    """-1 where there is none."""
    replaced: tuple[Replaced, ...] = ()
    """Samples that could not be read, in whose place others were taken."""
    targets: Float32[Tensor, "batch ..."] | None = None
    """What else is to be learned from each clip; see ``ClipPlan.target``."""

    def pin_memory(self) -> Self:
        """A copy in page-locked memory; the loader asks for it where there is a GPU."""
        return replace(
            self,
            clip=self.clip.pin_memory(),
            positions=self.positions.pin_memory(),
            samples=self.samples.pin_memory(),
            labels=self.labels.pin_memory(),
            targets=None if self.targets is None else self.targets.pin_memory(),
        )

    def reordered(self, order: Int64[Tensor, " batch"]) -> Self:
        """The same clips in another order; ``order`` has their numbers here."""
        return replace(
            self,
            clip=self.clip[order],
            positions=self.positions[order],
            samples=self.samples[order],
            labels=self.labels[order],
            targets=None if self.targets is None else self.targets[order],
        )


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


def as_batch(
    clip: UInt8[Tensor, "batch 3 frames height width"],
    epoch: int,
    positions: NDArray[np.int64],
    samples: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> Batch:
    """The batch of clips that stand at ``positions``; ``labels`` are those of all samples."""
    return Batch(
        clip,
        epoch,
        torch.from_numpy(positions),
        torch.from_numpy(samples),
        torch.from_numpy(labels[samples]),
    )
