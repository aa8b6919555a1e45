"""Cycles of a repeated action: how long the ones around a frame are, and which frames show them.

Positions and lengths are frames of the marked part of a video, from its first boundary (0) to its
last. At a position, the previous cycle reaches back to the same phase one cycle earlier, and the
next one forward to the same phase one later.

Axes: ``positions``; ``sides`` (2): previous, next.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NEIGHBOUR_RATIO = 1.3
"""Cycles that differ more from their neighbour say nothing of its length: UCFRep's own labels have
none there (found in its 27 real tables, which this rule gives back to a frame; unpublished)."""


class Context(NamedTuple):
    """How many guessed cycles a half of the input shows on either side of the position.

    Published are the two numbers (protocols 5.2), not what they mean. Ours: the half of the next
    cycle begins ``near`` guesses before the position and ends ``far`` after it, and that of the
    previous cycle is the same in the mirror of time.
    """

    near: float = 1.0
    far: float = 2.0


class Cycles:
    """The marked cycles of one video."""

    def __init__(self, boundaries: Sequence[int]) -> None:
        """Takes ascending frames of the video, two or more, between which the cycles lie."""
        if len(boundaries) < 2 or any(np.diff(boundaries) < 1):
            raise ValueError(f"cycles need ascending boundaries, two or more, not {boundaries}")
        self.first = boundaries[0]
        """Frame of the video that position 0 is."""
        self._boundaries = np.array(boundaries, dtype=np.float64) - boundaries[0]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._boundaries) - 1

    @property
    def num_frames(self) -> int:
        """Of the marked part, both ends included."""
        return int(self._boundaries[-1]) + 1

    @property
    def boundaries(self) -> Floats:
        """[cycles + 1] positions."""
        return self._boundaries

    def nearest_lengths(self, positions: Floats) -> Floats:
        """Frames to the same phase of the previous and of the next cycle, [positions, sides].

        Phase runs evenly from boundary to boundary. Where there is no such cycle, the length of the
        one that the position is in.
        """
        numbers = np.arange(self.count + 1)
        phase = np.interp(positions, self._boundaries, numbers)
        own = np.diff(self._boundaries)[self._cycle_at(positions)]
        earlier = positions - np.interp(phase - 1, numbers, self._boundaries)
        later = np.interp(phase + 1, numbers, self._boundaries) - positions
        return np.stack(
            [np.where(phase >= 1, earlier, own), np.where(phase <= self.count - 1, later, own)],
            axis=1,
        )

    def lengths(self, positions: Floats) -> Floats:
        """The same, but NaN where there is no such cycle, or one too unlike its neighbour."""
        is_like_next = np.append(_are_alike(np.diff(self._boundaries)), False)
        cycle = self._cycle_at(positions)
        has_previous = (cycle > 0) & is_like_next[cycle - 1]
        has_both = np.stack([has_previous, is_like_next[cycle]], axis=1)
        return np.where(has_both, self.nearest_lengths(positions), np.nan)

    def _cycle_at(self, positions: Floats) -> npt.NDArray[np.int64]:
        """Number of the cycle that each position is in."""
        begun: npt.NDArray[np.int64] = np.searchsorted(self._boundaries, positions, side="right")
        return np.clip(begun - 1, 0, self.count - 1)


def window_frames(
    positions: Floats, guesses: Floats, num_frames: int, half_frames: int, context: Context
) -> npt.NDArray[np.int64]:
    """Frames [positions, sides, half_frames] that the two halves of each input are made of.

    Args:
        positions: [positions].
        guesses: [positions, sides], of the cycles' lengths.
        num_frames: of the marked part, past whose ends its first and last frame are repeated.
        half_frames: of a half, evenly spread.
        context: how far a half reaches.
    """
    previous, following = guesses[:, :1], guesses[:, 1:]
    steps = np.linspace(0, 1, half_frames)
    starts = np.concatenate([-context.far * previous, -context.near * previous], axis=1)
    ends = np.concatenate([context.near * following, context.far * following], axis=1)
    frames = positions[:, None, None] + starts[..., None] + (ends - starts)[..., None] * steps
    inside: Floats = np.clip(np.rint(frames), 0, num_frames - 1)
    return inside.astype(np.int64)


def _are_alike(lengths: Floats) -> npt.NDArray[np.bool_]:
    """Of each cycle but the last, whether the next one is about as long."""
    shorter = np.minimum(lengths[1:], lengths[:-1])
    return np.maximum(lengths[1:], lengths[:-1]) <= NEIGHBOUR_RATIO * shorter
