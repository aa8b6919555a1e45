"""Frame numbers of clips."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_pipeline.data_prep.clips import clip_frames, middle_clip_frames, segment_frames


@pytest.mark.parametrize(
    ("start_draw", "frames"), [(0.0, [0, 2, 4]), (0.5, [3, 5, 7]), (0.999, [5, 7, 9])]
)
def test_a_clip_starts_where_the_draw_says(start_draw: float, frames: list[int]) -> None:
    assert clip_frames(10, 3, 2, start_draw).tolist() == frames


def test_every_start_is_equally_likely() -> None:
    starts = [clip_frames(8, 3, 2, draw / 40)[0] for draw in range(40)]

    assert [starts.count(start) for start in range(4)] == [10, 10, 10, 10]


@pytest.mark.parametrize(
    ("num_video_frames", "frames"), [(1, [0, 0, 0, 0]), (4, [0, 3, 3, 3]), (9, [0, 3, 6, 6])]
)
def test_a_short_video_repeats_the_last_frame_in_reach(
    num_video_frames: int, frames: list[int]
) -> None:
    assert clip_frames(num_video_frames, 4, 3, 0.9).tolist() == frames
    assert middle_clip_frames(num_video_frames, 4, 3).tolist() == frames


def test_the_middle_clip_leaves_as_much_before_as_behind() -> None:
    assert middle_clip_frames(11, 3, 2).tolist() == [3, 5, 7]


def test_a_clip_as_long_as_the_video_takes_all_of_it() -> None:
    assert clip_frames(5, 5, 1, 0.99).tolist() == middle_clip_frames(5, 5, 1).tolist()
    assert middle_clip_frames(5, 5, 1).tolist() == [0, 1, 2, 3, 4]


@given(
    st.integers(1, 400), st.integers(1, 32), st.integers(1, 8), st.floats(0, 1, exclude_max=True)
)
def test_frames_lie_in_the_video_and_never_go_back(
    num_video_frames: int, num_frames: int, stride: int, start_draw: float
) -> None:
    frames = clip_frames(num_video_frames, num_frames, stride, start_draw).tolist()

    assert len(frames) == num_frames
    assert 0 <= frames[0] <= frames[-1] < num_video_frames
    assert {b - a for a, b in pairwise(frames)} <= {0, stride}


def test_clips_start_on_the_grid_and_each_of_its_places_is_equally_likely() -> None:
    starts = [int(clip_frames(14, 3, 2, draw / 30, start_grid=4)[0]) for draw in range(30)]

    assert [starts.count(start) for start in (0, 4, 8)] == [10, 10, 10]


def test_a_grid_too_wide_for_the_video_leaves_its_beginning() -> None:
    assert clip_frames(8, 3, 2, 0.99, start_grid=4).tolist() == [0, 2, 4]


@given(st.integers(1, 400), st.integers(1, 32), st.integers(0, 2**32))
def test_segments_give_one_frame_out_of_each_part(
    num_video_frames: int, num_frames: int, seed: int
) -> None:
    draws = np.random.default_rng(seed).random(num_frames)

    frames = segment_frames(num_video_frames, num_frames, draws)

    part = num_video_frames / num_frames
    assert len(frames) == num_frames
    assert frames[0] >= 0
    assert frames[-1] < num_video_frames
    for number, frame in enumerate(frames.tolist()):
        assert int(number * part) <= frame <= max(int(number * part), (number + 1) * part)


def test_segments_reach_every_frame_and_never_more() -> None:
    almost_one = np.nextafter(1, 0)

    assert segment_frames(8, 4, np.zeros(4)).tolist() == [0, 2, 4, 6]
    assert segment_frames(8, 4, np.full(4, almost_one)).tolist() == [1, 3, 5, 7]
    assert segment_frames(7, 49, np.full(49, almost_one))[-1] == 6
    assert segment_frames(2, 5, np.full(5, 0.5)).tolist() == [0, 0, 0, 1, 1]
