"""Lengths of cycles around a position, and the frames that are shown of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.data_prep.annotations import cycle_boundaries
from sigma_pipeline.data_prep.catalogues.ucfrep import list_ucfrep
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.jobs.benchmarks.cycles import Context, Cycles, window_frames

NAN = float("nan")


def test_lengths_reach_the_same_phase_of_the_neighbours() -> None:
    cycles = Cycles([5, 15, 27, 37])

    lengths = cycles.lengths(np.array([0.0, 5, 16, 27, 32]))

    # At 16 half of the second cycle is over: half of the first was at 5, of the third is at 27.
    expected = [[NAN, 10], [NAN, 11], [11, 11], [11, NAN], [10, NAN]]
    assert lengths == pytest.approx(np.array(expected), nan_ok=True)
    assert (cycles.first, cycles.count, cycles.num_frames) == (5, 3, 33)


def test_a_cycle_says_nothing_of_a_neighbour_that_is_much_longer() -> None:
    cycles = Cycles([0, 10, 23, 37, 60])

    known = ~np.isnan(cycles.lengths(np.array([5.0, 15, 30, 50])))

    assert known.tolist() == [[False, True], [True, True], [True, False], [False, False]]


def test_where_a_side_has_no_cycle_its_own_stands_in() -> None:
    cycles = Cycles([0, 10, 30])

    assert cycles.nearest_lengths(np.array([5.0, 20])).tolist() == [[10, 15], [15, 20]]


@pytest.mark.parametrize("boundaries", [[], [3], [3, 3], [5, 4]])
def test_boundaries_that_bound_nothing_are_refused(boundaries: list[int]) -> None:
    with pytest.raises(ValueError, match="ascending boundaries, two or more"):
        Cycles(boundaries)


def test_lengths_are_those_that_ucfrep_itself_gives(real_videos: Path, tmp_path: Path) -> None:
    folder = real_videos / "annotations/ucfrep"
    for table in folder.glob("*/*.mat"):
        (tmp_path / f"{table.stem}.avi").touch()
    dataset = DatasetConfig(
        source=str(tmp_path), catalogue="ucfrep", annotations=str(folder), max_rejected_fraction=1
    )
    offsets = 0
    for item in list_ucfrep(dataset, [tmp_path]).items:
        annotation = json.loads(item.annotation or "")
        cycles = Cycles(cycle_boundaries(item.annotation) or ())
        lengths = cycles.lengths(np.arange(cycles.num_frames, dtype=np.float64))
        for side, name in enumerate(("offset_pre", "offset_next")):
            given = np.array(annotation[name])
            ours = np.where(np.isnan(lengths[:, side]), -1, lengths[:, side])
            assert np.abs(ours - given).max() < 0.51, item.name  # theirs are whole frames
            offsets += int((given > 0).sum())
    assert offsets > 5000


def test_halves_mirror_each_other_and_stay_in_the_video() -> None:
    frames = window_frames(
        np.array([50.0, 0.0]), np.array([[10.0, 20], [10, 20]]), 60, 7, Context(near=1, far=2)
    )

    assert frames.shape == (2, 2, 7)
    assert frames[0].tolist() == [
        [30, 37, 43, 50, 57, 59, 59],
        [40, 48, 57, 59, 59, 59, 59],
    ]
    assert frames[1, 0].tolist() == [0, 0, 0, 0, 7, 13, 20]
