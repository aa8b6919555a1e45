"""Paths of the demo's objects: what each motion does, and that one frame does not tell."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sigma_pipeline.data_prep.demo_motions import (
    MOTIONS,
    REPETITIONS,
    Motion,
    Path,
    draw_path,
    draw_repetitions,
)

NUM_FRAMES = 16
EVERY_MOTION = pytest.mark.parametrize("motion", MOTIONS, ids=lambda motion: motion.name)


def draws(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def drawn(motion: Motion, seed: int) -> Path:
    source = draws(seed)
    return draw_path(motion, source, NUM_FRAMES, draw_repetitions(motion, source))


def named(name: str) -> Motion:
    return next(motion for motion in MOTIONS if motion.name == name)


def distance_from_uniform(values: NDArray[np.float64]) -> float:
    """Kolmogorov-Smirnov distance of values in [0, 1)."""
    ranked = np.sort(values)
    return float(np.abs(ranked - (np.arange(len(values)) + 0.5) / len(values)).max())


@EVERY_MOTION
def test_a_single_frame_does_not_tell_the_motion(motion: Motion) -> None:
    paths = [drawn(motion, seed) for seed in range(400)]

    for frame in (0, 7, 15):
        for state in (
            [path.x[frame] for path in paths],
            [path.y[frame] for path in paths],
            [path.angle[frame] / (2 * np.pi) for path in paths],
            [path.size_phase[frame] for path in paths],
        ):
            assert distance_from_uniform(np.array(state) % 1.0) < 0.1


@pytest.mark.parametrize(
    ("name", "x", "y"), [("right", 1, 0), ("left", -1, 0), ("down", 0, 1), ("up", 0, -1)]
)
def test_a_translation_goes_its_way_at_one_speed(name: str, x: int, y: int) -> None:
    path = drawn(named(name), seed=0)

    way = np.stack([np.diff(path.x), np.diff(path.y)], axis=1)
    assert np.allclose(way, way[0])
    assert way[0] @ [x, y] == pytest.approx(np.abs(way[0]).sum())
    assert np.abs(way[0]).sum() > 0


@pytest.mark.parametrize(("name", "sign"), [("clockwise", 1), ("counterclockwise", -1)])
def test_a_rotation_turns_on_the_spot(name: str, sign: int) -> None:
    path = drawn(named(name), seed=0)

    assert (sign * np.diff(path.angle) > 0).all()
    assert np.ptp(path.x) == np.ptp(path.y) == np.ptp(path.radius) == 0


@pytest.mark.parametrize(("name", "sign"), [("grow", 1), ("shrink", -1)])
def test_a_size_changes_one_way_until_it_starts_over(name: str, sign: int) -> None:
    path = drawn(named(name), seed=0)

    wrong_way = sign * np.diff(path.radius) <= 0
    assert wrong_way.sum() <= 2
    assert np.ptp(path.radius) > 0


@pytest.mark.parametrize("repetitions", range(REPETITIONS[0], REPETITIONS[1] + 1))
def test_an_oscillation_has_as_many_periods_as_it_says(repetitions: int) -> None:
    path = draw_path(named("oscillate_vertically"), draws(0), NUM_FRAMES, repetitions)

    spectrum = np.abs(np.fft.rfft(path.y - path.y.mean()))
    assert spectrum.argmax() == repetitions
    assert np.ptp(path.x) == 0


@EVERY_MOTION
def test_only_oscillations_have_repetitions(motion: Motion) -> None:
    counts = {draw_repetitions(motion, draws(seed)) for seed in range(50)}

    low, high = REPETITIONS
    expected = set(range(low, high + 1)) if motion.name.startswith("oscillate") else {None}
    assert counts == expected
