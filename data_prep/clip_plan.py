"""What each training clip is cut from: worked out from numbers alone, nothing is read.

Every draw belongs to a position in the order, so a plan is the same on any rank and worker. Clips
that share a decode share its frames, which the first position of the group draws, even where a
micro-batch begins in its middle.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.data_prep.augment import Crop, training_crop
from sigma_pipeline.data_prep.batches import Span
from sigma_pipeline.data_prep.clips import clip_frames, segment_frames
from sigma_pipeline.data_prep.config import ClipConfig
from sigma_pipeline.data_prep.draws import generator
from sigma_pipeline.data_prep.hot_columns import ClipSource


class Group(NamedTuple):
    """Neighbours in the order whose clips are cut from one decoded sample."""

    first: int
    """Position that draws for all; before ``positions`` where a micro-batch cuts the group."""
    positions: range


def groups_of(span: Span, clips_per_decode: int) -> Iterator[Group]:
    """The positions of ``span``, those that share a decode together."""
    start = span.first - span.first % clips_per_decode
    for first in range(start, span.last, clips_per_decode):
        last = min(first + clips_per_decode, span.last)
        yield Group(first, range(max(first, span.first), last))


@dataclass(frozen=True)
class ClipPlan:
    """How clips are cut from whatever sample stands at a position.

    Those that learn from more than a class make a plan of their own, which knows the annotations:
    it may choose the frames, and says what is to be learned from them. Picklable.
    """

    clip: ClipConfig
    num_frames: int
    frame_size_px: int
    seed: int

    def draws(self, epoch: int, position: int, purpose: str) -> np.random.Generator:
        """The generator of one purpose at one position of an epoch."""
        return generator(self.seed, epoch, position, purpose)

    def frames(self, sample: int, source: ClipSource, epoch: int, first: int) -> NDArray[np.int64]:
        """Frames of the clips of the group at ``first``, counted from the sample's first one.

        Args:
            sample: its number in the pool.
            source: the same sample.
            epoch: counted from 0.
            first: position that draws for the group.
        """
        draws = self.draws(epoch, first, "start")
        if self.clip.sampling == "segments":
            return segment_frames(source.frames, self.num_frames, draws.random(self.num_frames))
        return clip_frames(
            source.frames,
            self.num_frames,
            self.clip.frame_stride,
            draws.random(),
            start_grid=source.frame_grid if self.clip.starts == "grid" else 1,
        )

    def crop(self, source: ClipSource, epoch: int, position: int) -> Crop:
        """The rectangle of the clip at ``position``."""
        draws = self.draws(epoch, position, "crop")
        return training_crop(source.height, source.width, self.frame_size_px, self.clip, draws)

    def target(
        self,
        sample: int,
        source: ClipSource,
        epoch: int,
        first: int,
        frames: NDArray[np.int64],
    ) -> NDArray[np.float32] | None:
        """What is to be learned from a clip, of one shape for all; None: its class, or nothing.

        Args:
            sample: its number in the pool.
            source: the same sample.
            epoch: counted from 0.
            first: position that has drawn for the group.
            frames: of the clip, as ``frames`` has chosen them.
        """
        return None
