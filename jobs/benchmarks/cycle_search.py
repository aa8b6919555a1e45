"""From a network that corrects guesses of a cycle's length to the number of cycles of a video.

Cycle lengths differ by a factor of fifty between videos and little within one: all are tried at one
place, and what is found there is handed on to ever finer parts of the video and corrected in each
(Zhang et al., CVPR 2020; protocols 5.2).

Axes: ``positions``; ``sides`` (2): previous, next cycle. Lengths are in frames.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CycleModel = Callable[[Floats, Floats], tuple[Floats, Floats]]
"""(positions, guesses [positions, sides]) to lengths [positions, sides], and how sure it is of them
[positions]."""

SHORTEST_CYCLE_FRAMES = 2.0
"""What repeats faster than every other frame cannot be seen."""


@dataclass(frozen=True)
class Search:
    """How cycle lengths are looked for."""

    scales: int = 30
    """Guesses tried in the middle of the video, evenly spaced on a log scale."""
    smallest_scale: float = 0.03
    """Of the video's length."""
    largest_scale: float = 0.35
    refinements: int = 4
    """Times that the best of them is corrected."""
    levels: int = 5
    """The video whole, in halves, in quarters, and so on."""
    merge_weight: float = 0.5
    """Of what a part was handed, against what was found in it."""

    @property
    def parts(self) -> int:
        """Of the video, at the last level."""
        return int(2 ** (self.levels - 1))

    def guesses(self, num_frames: int) -> Floats:
        """Lengths to try, [scales]."""
        scales = np.geomspace(self.smallest_scale, self.largest_scale, self.scales)
        return num_frames * scales.astype(np.float64)


@dataclass(frozen=True)
class FoundCycles:
    """What was found in a video, in the middle of each of the equal parts that it was cut into."""

    lengths: Floats
    """[positions, sides]"""
    num_frames: int

    @property
    def rates(self) -> Floats:
        """[positions] cycles per frame, of both sides together."""
        rates: Floats = (1 / self.lengths).mean(axis=1)
        return rates

    @property
    def count(self) -> int:
        """Cycles of the video: its length in cycles, each part with its own ruler."""
        return round(float(self._span * self.rates.mean()))

    @property
    def boundaries(self) -> Floats:
        """Positions between which the cycles lie, if the first begins with the video."""
        ends = np.linspace(0, self._span, len(self.rates) + 1)
        cycles = np.concatenate([[0], np.cumsum(self.rates * np.diff(ends))])
        return np.interp(np.arange(int(cycles[-1]) + 1), cycles, ends)

    @property
    def _span(self) -> int:
        """From the first frame to the last, in frames; lengths are such distances, too."""
        return self.num_frames - 1


def find_cycles(model: CycleModel, num_frames: int, search: Search) -> FoundCycles:
    """Looks for the cycle lengths of a video of ``num_frames``."""
    positions = np.array([num_frames / 2])
    lengths = _best_in_the_middle(model, num_frames, search)
    for _ in range(search.refinements):
        lengths = _corrected(model, positions, lengths, num_frames)
    for level in range(1, search.levels):
        parts = 2**level
        positions = (np.arange(parts) + 0.5) * (num_frames / parts)
        handed = np.repeat(lengths, 2, axis=0)
        found = _corrected(model, positions, handed, num_frames)
        lengths = search.merge_weight * handed + (1 - search.merge_weight) * found
    return FoundCycles(lengths, num_frames)


def _best_in_the_middle(model: CycleModel, num_frames: int, search: Search) -> Floats:
    """Lengths [1, sides] that the model is surest of."""
    guesses = np.repeat(search.guesses(num_frames)[:, None], 2, axis=1)
    lengths, confidence = model(np.full(search.scales, num_frames / 2), guesses)
    return _possible(lengths[[confidence.argmax()]], num_frames)


def _corrected(model: CycleModel, positions: Floats, guesses: Floats, num_frames: int) -> Floats:
    lengths, _ = model(positions, guesses)
    return _possible(lengths, num_frames)


def _possible(lengths: Floats, num_frames: int) -> Floats:
    return np.clip(lengths, SHORTEST_CYCLE_FRAMES, max(SHORTEST_CYCLE_FRAMES, num_frames))
