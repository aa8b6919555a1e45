"""Training clips of the counter: around a frame of a video's cycles, with a guess of their length.

A part of the guesses is near the truth, as those that are being refined; the others are any, as
those of the search (``cycle_search``), some so far off that no anchor is right. What the published
training draws beside "ten random sub-clips of a video" is unknown: this is ours.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.data_prep.augment import Crop, centre_square
from sigma_pipeline.data_prep.clip_plan import ClipPlan
from sigma_pipeline.data_prep.hot_columns import ClipSource
from sigma_pipeline.jobs.benchmarks.cycle_anchors import anchor_targets
from sigma_pipeline.jobs.benchmarks.cycle_videos import known_positions
from sigma_pipeline.jobs.benchmarks.cycles import Context, Cycles, Floats, window_frames


class Guesses(NamedTuple):
    """How guesses of training are drawn."""

    near_fraction: float = 0.5
    """Of the guesses that are near the truth."""
    near_ratio: float = 2.0
    """Furthest that these are from it, either way; even on a log scale."""
    smallest_scale: float = 0.03
    largest_scale: float = 0.35
    """Of the others, over the length of the marked part; even on a log scale."""


class _Drawn(NamedTuple):
    """What one clip shows, one row of each."""

    cycles: Cycles
    positions: Floats
    guesses: Floats
    """[1, sides]"""


@dataclass(frozen=True)
class CyclePlan(ClipPlan):
    """Clips of two halves; what is learned is said of each anchor of each guess.

    ``num_frames`` counts both halves. The square in the middle is shown, at times mirrored.
    """

    cycles: tuple[Cycles | None, ...]
    """Of each sample of the pool; only those that have any are trained on."""
    context: Context
    guesses: Guesses

    def frames(self, sample: int, source: ClipSource, epoch: int, first: int) -> NDArray[np.int64]:
        """See ``ClipPlan``: the half of the previous cycle, then that of the next."""
        cycles, positions, guesses = self._drawn(sample, epoch, first)
        half = self.num_frames // 2
        halves = window_frames(positions, guesses, cycles.num_frames, half, self.context)
        return np.minimum(cycles.first + halves.ravel(), source.frames - 1)

    def target(
        self, sample: int, source: ClipSource, epoch: int, first: int, frames: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See ``ClipPlan``: [sides, 2, anchors], labels and offsets (``anchor_targets``)."""
        cycles, positions, guesses = self._drawn(sample, epoch, first)
        target: NDArray[np.float32] = anchor_targets(guesses, cycles.lengths(positions))[0]
        return target

    def crop(self, source: ClipSource, epoch: int, position: int) -> Crop:
        """See ``ClipPlan``."""
        is_flipped = self.draws(epoch, position, "crop").random() < self.clip.flip_probability
        return replace(centre_square(source.height, source.width), is_flipped=is_flipped)

    def _drawn(self, sample: int, epoch: int, first: int) -> _Drawn:
        cycles = self.cycles[sample]
        assert cycles is not None, "samples without cycles are left out"
        draws, guesses = self.draws(epoch, first, "cycle"), self.guesses
        positions = draws.choice(known_positions(cycles), size=1)
        if draws.random() < guesses.near_fraction:
            ratio = guesses.near_ratio ** draws.uniform(-1, 1)
            return _Drawn(cycles, positions, ratio * cycles.nearest_lengths(positions))
        scale = np.exp(draws.uniform(*np.log([guesses.smallest_scale, guesses.largest_scale])))
        return _Drawn(cycles, positions, np.full((1, 2), scale * cycles.num_frames))
