"""Counting with a counter that knows the truth: geometry and search must give the true counts."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from sigma_pipeline.jobs.benchmarks.cycle_search import FoundCycles, Search, find_cycles
from sigma_pipeline.jobs.benchmarks.cycles import Cycles, Floats
from tests.jobs.benchmarks.cycle_truth import knowing


def counted(boundaries: list[int]) -> FoundCycles:
    cycles = Cycles(boundaries)
    return find_cycles(knowing(cycles), cycles.num_frames, Search())


@pytest.mark.parametrize("count", [2, 3, 5, 8, 13, 21, 34, 53])
def test_even_cycles_of_any_number_are_counted(count: int) -> None:
    boundaries = np.linspace(7, 407, count + 1).round().astype(int).tolist()

    assert counted(boundaries).count == count


def test_all_real_annotations_of_ucfrep_are_counted(real_videos: Path) -> None:
    counts = {}
    for path in sorted((real_videos / "annotations/ucfrep").glob("*/*.mat")):
        marked = loadmat(path)["label"][0, 0]["temporal_bound"].ravel().astype(int).tolist()
        counts[path.stem] = (len(marked) - 1, counted(marked).count)

    assert len(counts) == 27
    assert {true for true, _ in counts.values()} >= {2, 3, 4, 7, 9, 18, 32}
    assert {name: pair for name, pair in counts.items() if pair[0] != pair[1]} == {}


def test_all_real_annotations_of_quva_are_counted(real_videos: Path) -> None:
    folder = real_videos / "actions/quva_repetition/annotations"
    ends = {path.stem: np.load(path).tolist() for path in folder.glob("*.npy")}

    found = {name: counted([0, *frames]).count for name, frames in ends.items()}

    assert found == {name: len(frames) for name, frames in ends.items()}
    assert found["023_fitness"] == 7
    assert len(found) == 5


def test_what_is_found_in_the_middle_is_handed_on_and_corrected_by_halves() -> None:
    asked: list[tuple[int, float]] = []

    def model(positions: Floats, guesses: Floats) -> tuple[Floats, Floats]:
        asked.append((len(positions), float(guesses.mean())))
        return np.full_like(guesses, 20.0), -np.abs(guesses - 40).mean(axis=1)

    found = find_cycles(model, 401, Search(scales=3, refinements=1, levels=3, merge_weight=0.5))

    assert [positions for positions, _ in asked] == [3, 1, 2, 4]
    assert found.lengths == pytest.approx(np.full((4, 2), 20.0))
    assert (found.count, len(found.boundaries)) == (20, 21)


def test_weights_of_levels_are_as_said() -> None:
    answers = iter([10.0, 10.0, 30.0])

    def model(positions: Floats, guesses: Floats) -> tuple[Floats, Floats]:
        return np.full_like(guesses, next(answers)), np.zeros(len(positions))

    found = find_cycles(model, 100, Search(scales=1, refinements=1, levels=2, merge_weight=0.25))

    assert (found.lengths == 0.25 * 10 + 0.75 * 30).all()


@pytest.mark.parametrize(("said", "count"), [(0.01, 50), (1e9, 1)])
def test_lengths_stay_between_two_frames_and_the_whole_video(said: float, count: int) -> None:
    def model(positions: Floats, guesses: Floats) -> tuple[Floats, Floats]:
        return np.full_like(guesses, said), np.zeros(len(positions))

    assert find_cycles(model, 100, Search()).count == count
