"""Decoding whole videos. Frame n of the test video is brighter than the first by 4 * n."""

import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sigma_pipeline.data_prep.decode import decode_all, seek_frames, survey
from sigma_pipeline.data_prep.decode_clip import NO_PTS
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.probe import probe
from sigma_pipeline.data_prep.verdicts import Rejected

# Grey noise: flat pictures would all be taken for new scenes, and colours lose resolution.
STILL = np.random.default_rng(0).integers(20, 120, (32, 48, 1), np.uint8).repeat(3, axis=2)


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    """24 frames of 32x48 pixels, a keyframe each 6."""
    brightness = 4 * np.arange(24, dtype=np.uint8)
    frames = STILL + brightness[:, None, None, None]
    write_video(tmp_path / "ramp.mp4", frames, fps=10, crf=0, gop_frames=6)
    return (tmp_path / "ramp.mp4").read_bytes()


def numbers(frames: NDArray[np.uint8]) -> list[int]:
    return [round((value - STILL.mean()) / 4) for value in frames.mean(axis=(1, 2, 3))]


def test_frames_come_out_after_a_seek(video: bytes) -> None:
    pts = probe(video, 2).keyframe_pts[2]

    found = seek_frames(video, {13, 16}, 12, pts)

    assert list(found) == [13, 16]
    assert numbers(np.stack(list(found.values()))) == [13, 16]


def test_a_seek_to_a_wrong_time_finds_nothing(video: bytes) -> None:
    assert seek_frames(video, {13}, 12, 10**9) == {}


def test_a_survey_knows_times_and_keyframes(video: bytes) -> None:
    facts = survey(video)

    assert facts.keyframes == [0, 6, 12, 18]
    assert [pts * facts.time_base for pts in facts.pts if pts is not None] == [
        Fraction(number, 10) for number in range(24)
    ]


def test_times_that_frames_do_not_bear_out_are_not_given(real_videos: Path) -> None:
    facts = survey((real_videos / "odd/codecs/test_video_66x50.mov").read_bytes())

    assert set(facts.pts) == {NO_PTS}
    assert facts.keyframes == []


def test_a_survey_stops_at_its_limits(video: bytes) -> None:
    with pytest.raises(Rejected, match="too_large: more than 23"):
        survey(video, max_frames=23)
    with pytest.raises(Rejected, match="too_large: 48x32 pixels"):
        survey(video, max_pixels=1000)
    assert len(survey(video, max_frames=24, max_pixels=64 * 32).pts) == 24


def test_all_frames_or_the_first_ones(video: bytes) -> None:
    assert numbers(decode_all(video, 100)) == list(range(24))
    assert numbers(decode_all(video, 5)) == list(range(5))


def test_pictures_are_turned_upright(real_videos: Path) -> None:
    data = (real_videos / "odd/rotated/video_90.mov").read_bytes()

    assert probe(data, 2).rotation == 270
    assert decode_all(data, 3).shape == (3, 568, 320, 3)


def test_a_verdict_survives_the_way_between_processes() -> None:
    verdict = pickle.loads(pickle.dumps(Rejected("corrupt", "frames decoded: 3")))

    assert (verdict.reason, verdict.detail) == ("corrupt", "frames decoded: 3")
