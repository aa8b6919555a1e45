"""The marked part of a video, as the counter sees it."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from sigma_pipeline.data_prep.augment import Crop
from sigma_pipeline.data_prep.verdicts import BadSample
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.benchmarks import cycle_counting
from sigma_pipeline.jobs.benchmarks.cycle_counting import _Video
from sigma_pipeline.jobs.benchmarks.cycles import Cycles


class Numbered:
    """A reader of one video of 100 frames, each filled with its number."""

    asked = 0

    def num_frames(self, sample: int) -> int:
        """Of the only sample."""
        return 100

    def size(self, sample: int) -> tuple[int, int]:
        """Height and width."""
        return 6, 4

    def clips(self, sample: int, wanted: np.ndarray, crops: Sequence[Crop], size: int) -> Tensor:
        """The frames asked for."""
        assert crops == [Crop(0, 0, 4, 4)]
        self.asked += len(wanted)
        frames = torch.from_numpy(wanted).to(torch.uint8)
        return frames.view(1, 1, -1, 1, 1).expand(1, 3, -1, size, size)


class Damaged(Numbered):
    """One that cannot be read."""

    def clips(self, *_: object) -> Tensor:
        """See ``FrameReader``."""
        raise BadSample("key", "tar", "source", "no keyframe")


def seen(reader: Numbered, boundaries: list[int], frames: list[list[int]]) -> list[list[int]]:
    """Numbers of the frames that are seen where ``frames`` of the marked part are asked for."""
    video = _Video(reader, 0, Cycles(boundaries), 2)  # type: ignore[arg-type]
    clips = video.clips(np.array(frames))
    assert clips.shape == (len(frames), 3, len(frames[0]), 2, 2)
    numbers: list[list[int]] = clips[:, 0, :, 0, 0].tolist()
    return numbers


def test_frames_count_from_the_first_boundary_and_end_with_the_video() -> None:
    assert seen(Numbered(), [30, 50, 104], [[0, 1, 20], [74, 69, 0]]) == [
        [30, 31, 50],
        [99, 99, 30],
    ]


def test_of_a_long_video_frames_are_kept_that_are_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle_counting, "_KEPT_FRAMES", 12)
    reader = Numbered()

    ((*numbers,),) = seen(reader, [10, 50, 98], [list(range(89))])

    assert reader.asked == 12
    assert len(set(numbers)) == 12
    assert np.abs(np.array(numbers) - np.arange(10, 99)).max() <= 8


def test_a_video_that_cannot_be_read_ends_the_scoring() -> None:
    with pytest.raises(StageError, match="no keyframe"):
        seen(Damaged(), [0, 9], [[0]])
