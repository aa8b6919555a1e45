"""Demo videos whose cycles are marked: the marks are where the motion says they are."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from sigma_pipeline.data_prep.annotations import cycle_boundaries
from sigma_pipeline.data_prep.config import RenderedConfig
from sigma_pipeline.data_prep.demo import render
from sigma_pipeline.data_prep.demo_cycles import CYCLES, DemoCycles, draw_cycles
from sigma_pipeline.data_prep.demo_motions import REPEATED_MOTIONS, Motion, draw_path
from sigma_pipeline.data_prep.demo_scene import render_clip


def draws(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def drawn(seeds: int, num_frames: int) -> list[DemoCycles]:
    return [draw_cycles(draws(seed), num_frames) for seed in range(seeds)]


def test_there_are_all_numbers_of_cycles_of_like_length() -> None:
    videos = drawn(200, 96)

    assert {video.count for video in videos} == set(range(CYCLES[0], CYCLES[1] + 1))
    for video in videos:
        lengths = np.diff(video.boundaries)
        assert lengths.max() <= 1.3 * lengths.min() + 1.5  # rounded to frames
        assert 0 <= video.boundaries[0] < video.boundaries[-1] < 96


def test_short_videos_have_fewer_cycles_rather_than_too_short_ones() -> None:
    assert max(video.count for video in drawn(100, 32)) <= 5
    assert min(np.diff(video.boundaries).min() for video in drawn(100, 32)) >= 4


@pytest.mark.parametrize("motion", REPEATED_MOTIONS, ids=lambda motion: motion.name)
def test_an_object_is_in_the_same_place_at_every_boundary_and_rests_outside(motion: Motion) -> None:
    cycles = draw_cycles(draws(1), 96)
    path = draw_path(motion, draws(2), 96, cycles.count, cycles.time)
    where = np.stack([path.x, path.y, path.angle])

    first, *_, last = marks = list(cycles.boundaries)
    assert np.abs(where[:, marks] - where[:, [first]]).max() < 1e-9
    assert np.ptp(where[:, : first + 1], axis=1).max() == 0
    assert np.ptp(where[:, last:], axis=1).max() == pytest.approx(0, abs=1e-9)
    assert np.ptp(where[:, first : marks[1]], axis=1).max() > 0.2


def test_a_clip_says_which_cycles_it_shows() -> None:
    clip = render_clip(REPEATED_MOTIONS[0], draws(3), 48, 16, has_cycles=True)

    assert clip.boundaries is not None
    assert clip.repetitions == len(clip.boundaries) - 1
    assert clip.frames.shape == (48, 16, 16, 3)


def test_annotations_of_the_set_bound_its_cycles(tmp_path: Path) -> None:
    config = RenderedConfig(kind="cycles", train_clips=3, val_clips=3, frames=32, size_px=16)

    render(config, tmp_path / "set", workers=1)

    videos = sorted((tmp_path / "set").glob("*/*/*.mp4"))
    assert {video.parent.name for video in videos} == {motion.name for motion in REPEATED_MOTIONS}
    for video in videos:
        annotation = video.with_suffix(".json").read_text()
        boundaries = cycle_boundaries(annotation)
        assert boundaries is not None
        assert json.loads(annotation)["count"] == len(boundaries) - 1
        assert not video.with_suffix(".masks").exists()


def test_videos_too_short_for_cycles_are_refused() -> None:
    with pytest.raises(ValidationError, match="frames=16 are too few for cycles; set 32 or more"):
        RenderedConfig(kind="cycles")
