"""Re-encoding."""

from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.data_prep.config import TranscodeConfig
from sigma_pipeline.data_prep.decode import decode_all
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.probe import probe
from sigma_pipeline.data_prep.transcode import scaled_size, transcode

CONFIG = TranscodeConfig(short_side_px=32, gop_frames=4, crf=10)


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    """10 frames of a ramp, 64x96 pixels; frame n is brighter by 10 * n."""
    frames = np.empty((10, 64, 96, 3), dtype=np.uint8)
    frames[:] = np.linspace(0, 150, 96).astype(np.uint8)[:, None]
    frames += (10 * np.arange(10, dtype=np.uint8))[:, None, None, None]
    write_video(tmp_path / "ramp.mp4", frames, fps=8, crf=0, gop_frames=10)
    return (tmp_path / "ramp.mp4").read_bytes()


def test_the_result_has_the_same_frames_at_the_smaller_size(video: bytes) -> None:
    small = transcode(video, probe(video, 2), CONFIG)

    facts = probe(small, 2)
    assert (facts.frames, facts.width, facts.height, facts.fps) == (10, 48, 32, 8)
    assert np.diff(facts.keyframes).max() <= 4
    wanted = decode_all(video, 10)[:, ::2, ::2].astype(int)
    assert np.abs(decode_all(small, 10) - wanted).mean() < 3


def test_the_same_video_gives_the_same_bytes(video: bytes) -> None:
    assert transcode(video, probe(video, 2), CONFIG) == transcode(video, probe(video, 2), CONFIG)


def test_a_rotated_video_is_stored_upright(real_videos: Path) -> None:
    data = (real_videos / "odd/rotated/video_90.mov").read_bytes()

    facts = probe(transcode(data, probe(data, 2), CONFIG), 2)

    assert (facts.width, facts.height, facts.rotation) == (32, 56, 0)


@pytest.mark.parametrize(
    ("size", "scaled"),
    [((640, 480), (42, 32)), ((480, 640), (32, 42)), ((20, 30), (20, 30)), ((1, 1), (2, 2))],
)
def test_the_short_side_is_reached_but_never_enlarged(
    size: tuple[int, int], scaled: tuple[int, int]
) -> None:
    assert scaled_size(*size, short_side=32) == scaled
