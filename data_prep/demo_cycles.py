"""When the cycles of a demo video begin and end: synthetic stand-ins for repeated actions.

Unlike the short clips of the demo's motions, whose oscillations are even, these videos have cycles
of varying length, and rest before and after.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CYCLES = (2, 8)
"""Cycles in a video, both included; fewer where they would be shorter than ``SHORTEST_FRAMES``."""
SHORTEST_FRAMES = 6
"""Mean length of the shortest cycles that are drawn."""
_SPREAD = (0.88, 1.12)
"""Length of a cycle over the video's mean."""
_REST = 0.15
"""Share of the video that the object may rest before the first cycle, and after the last."""


@dataclass(frozen=True)
class DemoCycles:
    """The cycles of one video."""

    boundaries: tuple[int, ...]
    """Frames from 0, between which they lie."""
    time: NDArray[np.float64]
    """[frames] from 0 at the first boundary to 1 at the last, each cycle the same share."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.boundaries) - 1


def draw_cycles(draws: np.random.Generator, num_frames: int) -> DemoCycles:
    """The cycles of a video of ``num_frames``, as many as ``RenderedConfig`` takes."""
    first = draws.uniform(0, _REST) * (num_frames - 1)
    last = draws.uniform(1 - _REST, 1) * (num_frames - 1)
    low, high = CYCLES
    count = int(draws.integers(low, min(high, int((last - first) / SHORTEST_FRAMES)) + 1))
    ends = np.cumsum(draws.uniform(*_SPREAD, count))
    boundaries = np.rint(first + (last - first) * np.concatenate([[0], ends / ends[-1]]))
    time = np.interp(np.arange(num_frames), boundaries, np.linspace(0, 1, count + 1))
    return DemoCycles(tuple(int(frame) for frame in boundaries), time)
