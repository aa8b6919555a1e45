"""What the objects of the demo videos do: each class is one motion.

No single frame tells the class. Position (on a frame whose edges wrap around), angle and size each
start uniform and stay uniform under every motion, so that all classes share the distribution of
any one frame; only the change from frame to frame differs.

Axes: ``frames``. Lengths are in frame widths, angles in radians, y points down.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLIP_SPEED = (0.6, 1.2)
"""Frame widths that a translation covers in the whole clip."""
CLIP_TURN = (0.6 * np.pi, 1.2 * np.pi)
"""Radians that a rotation covers in the whole clip."""
CLIP_GROWTH = (0.6, 1.2)
"""Passes through the range of sizes in the whole clip; past its end an object starts over."""
OSCILLATION_REACH = (0.15, 0.25)
"""Amplitude of an oscillation."""
SWING_REACH = (0.2 * np.pi, 0.4 * np.pi)
"""Amplitude of a rotation to and fro."""
REPETITIONS = (2, 4)
"""Periods of an oscillation in the whole clip, both included."""
RADII = (0.18, 0.38)
"""Range of sizes."""


@dataclass(frozen=True)
class Path:
    """Where one object is in each frame."""

    x: Floats
    """[frames], in [0, 1) after wrapping; kept unwrapped here."""
    y: Floats
    angle: Floats
    size_phase: Floats
    """[frames]; the fractional part runs through the range of sizes on a log scale."""

    @property
    def radius(self) -> Floats:
        """Radius in frame widths, [frames]."""
        low, high = RADII
        return low * (high / low) ** (self.size_phase % 1.0)


Move = Callable[[Path, Floats, np.random.Generator, int], Path]
"""(path at rest, time in [0, 1) per frame, draws, repetitions) to the moving path."""


@dataclass(frozen=True)
class Motion:
    """A class of the demo set."""

    name: str
    move: Move
    repeats: bool = False
    """Has a number of repetitions."""


def _translate(x: int, y: int) -> Move:
    def move(path: Path, time: Floats, draws: np.random.Generator, _: int) -> Path:
        way = draws.uniform(*CLIP_SPEED) * time
        return replace(path, x=path.x + x * way, y=path.y + y * way)

    return move


def _rotate(direction: int) -> Move:
    def move(path: Path, time: Floats, draws: np.random.Generator, _: int) -> Path:
        return replace(path, angle=path.angle + direction * draws.uniform(*CLIP_TURN) * time)

    return move


def _resize(direction: int) -> Move:
    def move(path: Path, time: Floats, draws: np.random.Generator, _: int) -> Path:
        growth = direction * draws.uniform(*CLIP_GROWTH) * time
        return replace(path, size_phase=path.size_phase + growth)

    return move


def _oscillate(x: int, y: int) -> Move:
    def move(path: Path, time: Floats, draws: np.random.Generator, repetitions: int) -> Path:
        phase = draws.uniform(0, 2 * np.pi)
        reach = draws.uniform(*OSCILLATION_REACH)
        way = reach * np.sin(2 * np.pi * repetitions * time + phase)
        return replace(path, x=path.x + x * way, y=path.y + y * way)

    return move


def _swing() -> Move:
    def move(path: Path, time: Floats, draws: np.random.Generator, repetitions: int) -> Path:
        phase = draws.uniform(0, 2 * np.pi)
        reach = draws.uniform(*SWING_REACH)
        return replace(
            path, angle=path.angle + reach * np.sin(2 * np.pi * repetitions * time + phase)
        )

    return move


MOTIONS = (
    Motion("right", _translate(1, 0)),
    Motion("left", _translate(-1, 0)),
    Motion("down", _translate(0, 1)),
    Motion("up", _translate(0, -1)),
    Motion("clockwise", _rotate(1)),
    Motion("counterclockwise", _rotate(-1)),
    Motion("grow", _resize(1)),
    Motion("shrink", _resize(-1)),
    Motion("oscillate_horizontally", _oscillate(1, 0), repeats=True),
    Motion("oscillate_vertically", _oscillate(0, 1), repeats=True),
)

REPEATED_MOTIONS = (
    *(motion for motion in MOTIONS if motion.repeats),
    Motion("swing", _swing(), repeats=True),
)
"""Classes of the videos in which cycles are counted."""


def path_at_rest(draws: np.random.Generator, num_frames: int) -> Path:
    """A resting object somewhere, at some angle, of some size."""
    still = np.ones(num_frames)
    x, y, angle, size_phase = draws.uniform(size=4)
    return Path(x * still, y * still, 2 * np.pi * angle * still, size_phase * still)


def draw_repetitions(motion: Motion, draws: np.random.Generator) -> int | None:
    """How often a clip of this motion repeats it; None where nothing repeats."""
    low, high = REPETITIONS
    return int(draws.integers(low, high + 1)) if motion.repeats else None


def draw_path(
    motion: Motion,
    draws: np.random.Generator,
    num_frames: int,
    repetitions: int | None,
    time: Floats | None = None,
) -> Path:
    """Where an object of this motion is in each frame; all of a clip share ``repetitions``.

    Args:
        motion: what it does.
        draws: of this object.
        num_frames: of the clip.
        repetitions: of the motion while ``time`` goes from 0 to 1.
        time: [num_frames]; runs evenly when absent.
    """
    if time is None:
        time = np.arange(num_frames) / num_frames
    return motion.move(path_at_rest(draws, num_frames), time, draws, repetitions or 0)
