"""Decoding frames by number. Frame n of the test video is brighter than the first by 4 * n."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sigma_pipeline.data_prep.decode import (
    Rejected,
    decode_all,
    decode_frames,
    decode_scaled,
    seek_frames,
)
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.probe import Probe, probe

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


def decoded(data: bytes, frames: Sequence[int], facts: Probe) -> list[int]:
    return numbers(
        decode_frames(data, frames, keyframes=facts.keyframes, keyframe_pts=facts.keyframe_pts)
    )


@pytest.mark.parametrize("wanted", [[0, 1, 2], [7], [5, 6], [23], [22, 3, 3, 14], [11, 17, 23, 23]])
def test_the_wanted_frames_come_in_the_wanted_order(video: bytes, wanted: list[int]) -> None:
    assert decoded(video, wanted, probe(video, 2)) == wanted


def test_decoding_starts_at_the_keyframe_before(
    video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = probe(video, 2)
    starts: list[int] = []
    monkeypatch.setattr(
        "sigma_pipeline.data_prep.decode.seek_frames",
        lambda data, wanted, keyframe, pts: (
            starts.append(keyframe) or seek_frames(data, wanted, keyframe, pts)
        ),
    )

    decoded(video, [14, 20], facts)

    assert facts.keyframes == (0, 6, 12, 18)
    assert starts == [12]


def test_a_wrong_keyframe_time_costs_only_time(video: bytes) -> None:
    frames = decode_frames(video, [13, 15], keyframes=[0, 12], keyframe_pts=[0, 10**9])

    assert numbers(frames) == [13, 15]


def test_a_frame_beyond_the_end_is_an_error_that_names_it(video: bytes) -> None:
    with pytest.raises(Rejected, match="frame 24 does not decode"):
        decoded(video, [23, 24], probe(video, 2))


def test_all_frames_or_the_first_ones(video: bytes) -> None:
    assert numbers(decode_all(video, 100)) == list(range(24))
    assert numbers(decode_all(video, 5)) == list(range(5))


def test_scaled_frames_have_the_size_asked_for(video: bytes) -> None:
    frames = np.stack(list(decode_scaled(video, width=24, height=16)))

    assert frames.shape == (24, 16, 24, 3)
    assert numbers(frames) == list(range(24))


def test_pictures_are_turned_upright(real_videos: Path) -> None:
    data = (real_videos / "odd/rotated/video_90.mov").read_bytes()

    assert probe(data, 2).rotation == 270
    assert decode_all(data, 3).shape == (3, 568, 320, 3)
    assert decode_frames(data, [2], keyframes=[0], keyframe_pts=[0]).shape == (1, 568, 320, 3)
    assert next(decode_scaled(data, width=16, height=30)).shape == (30, 16, 3)


def test_a_verdict_survives_the_way_between_processes() -> None:
    verdict = pickle.loads(pickle.dumps(Rejected("corrupt", "frames decoded: 3")))

    assert (verdict.reason, verdict.detail) == ("corrupt", "frames decoded: 3")
