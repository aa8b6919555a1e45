"""Encoded videos decode to what went in, and are the same bytes each time."""

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from sigma_pipeline.data_prep.encode import write_video


@pytest.fixture
def waves() -> NDArray[np.uint8]:
    """Smooth stripes that move, [12, 32, 48, 3]: 4:2:0 keeps what is smooth."""
    time, row, column = np.meshgrid(np.arange(12), np.arange(32), np.arange(48), indexing="ij")
    grey = 128 + 100 * np.sin((row + column + 2 * time) / 5)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=3)


def decoded(path: Path) -> NDArray[np.uint8]:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_every_frame_comes_back_in_order(tmp_path: Path, waves: NDArray[np.uint8]) -> None:
    write_video(tmp_path / "clip.mp4", waves, fps=12, crf=10, gop_frames=4)

    difference = np.abs(decoded(tmp_path / "clip.mp4").astype(int) - waves.astype(int))
    assert difference.shape == waves.shape
    assert difference.mean() < 3


def test_the_same_frames_give_the_same_bytes_whatever_memory_held_before(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (24, 96, 128, 3), dtype=np.uint8)

    for number in range(8):
        _garbage = [bytearray(noise) for _ in range(number)]
        write_video(tmp_path / f"{number}.mp4", noise, fps=12, crf=20, gop_frames=12)

    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_keyframes_are_at_most_a_group_apart(tmp_path: Path, waves: NDArray[np.uint8]) -> None:
    write_video(tmp_path / "clip.mp4", waves, fps=12, crf=10, gop_frames=4)

    with av.open(tmp_path / "clip.mp4") as container:
        keys = [n for n, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert max(np.diff([*keys, len(waves)])) <= 4


def test_the_frame_rate_is_kept(tmp_path: Path, waves: NDArray[np.uint8]) -> None:
    write_video(tmp_path / "clip.mp4", waves, fps=12.5, crf=10, gop_frames=4)

    with av.open(tmp_path / "clip.mp4") as container:
        assert container.streams.video[0].average_rate == 12.5


def test_nothing_but_the_video_is_left(tmp_path: Path, waves: NDArray[np.uint8]) -> None:
    write_video(tmp_path / "clip.mp4", waves, fps=12, crf=10, gop_frames=4)

    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("shape", [(4, 31, 48, 3), (4, 32, 47, 3), (0, 32, 48, 3), (32, 48, 3)])
def test_impossible_frames_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frame"):
        write_video(tmp_path / "clip.mp4", np.zeros(shape, np.uint8), 12, 10, 4)

    assert not list(tmp_path.iterdir())
