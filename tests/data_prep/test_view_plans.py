"""Which frames and squares evaluation views are, against the published formulas."""

import numpy as np
import pytest

from sigma_pipeline.data_prep.config import MultiViewConfig, ViewConfig
from sigma_pipeline.data_prep.view_plans import view_crops, view_frames

RANDOM = ViewConfig(sampling="random")


def k400(segments: int, stride: int = 4) -> MultiViewConfig:
    return MultiViewConfig(frame_stride=stride, segments=segments)


def ssv2(segments: int) -> MultiViewConfig:
    return MultiViewConfig(sampling="segments", segments=segments)


def test_one_dense_clip_stands_in_the_middle() -> None:
    (clip,) = view_frames(100, 4, ViewConfig(frame_stride=2), 0)

    assert clip.tolist() == [46, 48, 50, 52]


@pytest.mark.parametrize("frames", [300, 123, 64, 61])
@pytest.mark.parametrize("segments", [2, 5, 7])
def test_dense_clips_start_where_the_published_test_does(frames: int, segments: int) -> None:
    strided = list(range(0, frames, 4))
    expected = []
    for chunk in range(segments):
        start = int(chunk * max((len(strided) - 16) / (segments - 1), 0))
        expected.append(strided[start : start + 16])

    clips = view_frames(frames, 16, k400(segments), 0)

    assert [clip.tolist() for clip in clips] == expected


def test_dense_clips_of_a_short_video_repeat_its_last_reachable_frame() -> None:
    clips = view_frames(9, 4, k400(2), 0)

    assert [clip.tolist() for clip in clips] == [[0, 4, 8, 8]] * 2


@pytest.mark.parametrize("frames", [180, 47, 33, 16])
def test_two_clips_over_parts_are_the_two_halves_of_the_published_indices(frames: int) -> None:
    tick = frames / 16
    indices = sorted(
        [int(tick / 2 + tick * x) for x in range(16)] + [int(tick * x) for x in range(16)]
    )

    clips = view_frames(frames, 16, ssv2(2), 0)

    assert [clip.tolist() for clip in clips] == [indices[0::2], indices[1::2]]


def test_one_clip_over_parts_takes_the_middle_of_each() -> None:
    (clip,) = view_frames(32, 8, ViewConfig(sampling="segments"), 0)

    assert clip.tolist() == [2, 6, 10, 14, 18, 22, 26, 30]


def test_random_frames_are_of_the_whole_video_in_order_and_none_twice() -> None:
    clips = [view_frames(20, 16, RANDOM, sample)[0] for sample in range(50)]

    assert all((np.diff(clip) > 0).all() for clip in clips)
    assert set(np.concatenate(clips).tolist()) == set(range(20))


def test_random_frames_are_drawn_for_each_video_and_seed_once_and_for_all() -> None:
    other = ViewConfig(sampling="random", seed=2)

    drawn = [view_frames(90, 4, view, sample)[0] for view in (RANDOM, other) for sample in (0, 1)]

    assert len({tuple(clip.tolist()) for clip in drawn}) == 4
    assert view_frames(90, 4, RANDOM, 1)[0].tolist() == drawn[1].tolist()


def test_random_frames_of_a_short_video_come_more_than_once() -> None:
    (clip,) = view_frames(3, 16, RANDOM, 0)

    assert sorted(set(clip.tolist())) == [0, 1, 2]


@pytest.mark.parametrize("view", [k400(7), k400(1), ssv2(3), ViewConfig(), RANDOM])
@pytest.mark.parametrize("frames", [1, 2, 5, 17, 1000])
def test_all_frames_of_a_view_are_in_the_video(view: ViewConfig, frames: int) -> None:
    for clip in view_frames(frames, 16, view, 0):
        assert len(clip) == 16
        assert clip.min() >= 0
        assert clip.max() < frames
        assert (np.diff(clip) >= 0).all()


def test_three_squares_reach_from_end_to_end_of_the_long_side() -> None:
    wide = view_crops(240, 320, MultiViewConfig(crops=3))
    high = view_crops(320, 240, MultiViewConfig(crops=3))

    assert [(crop.top, crop.left) for crop in wide] == [(0, 0), (0, 40), (0, 80)]
    assert [(crop.top, crop.left) for crop in high] == [(0, 0), (40, 0), (80, 0)]
    assert {(crop.height, crop.width) for crop in wide + high} == {(240, 240)}


def test_a_squashed_frame_is_one_view() -> None:
    view = MultiViewConfig(crop="resize", segments=2, crops=3)

    assert len(view_crops(240, 320, view)) == 1
    assert view.views == 2
