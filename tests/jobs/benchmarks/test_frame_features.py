"""Features of single frames: which clip shows them, and which slice of it is theirs."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.benchmarks.frame_features import frame_features
from tests.jobs.benchmarks.davis_split import tiny_encoder


class Video:
    """Frames of noise, and which of them were asked for together."""

    def __init__(self) -> None:
        draws = torch.Generator().manual_seed(1)
        self.pixels = torch.randint(0, 256, (1, 3, 12, 32, 48), dtype=torch.uint8, generator=draws)
        self.clips: list[list[int]] = []

    def read(self, numbers: NDArray[np.int64]) -> Tensor:
        """The numbered frames as one clip."""
        self.clips.append(numbers.tolist())
        return self.pixels[:, :, numbers]


@pytest.mark.parametrize(
    ("clip_frames", "clips"),
    [
        (1, [[3, 3], [4, 4], [5, 5], [6, 6], [7, 7]]),
        (2, [[3, 4], [5, 6], [7, 7]]),
        (4, [[3, 4, 5, 6], [7, 7]]),
    ],
)
def test_clips_follow_on_each_other_and_are_filled_with_their_last_frame(
    clip_frames: int, clips: list[list[int]]
) -> None:
    video, encoder = Video(), tiny_encoder().at_shape(height_px=32, width_px=48)

    features = list(frame_features(encoder, video.read, range(3, 8), clip_frames=clip_frames))

    assert video.clips == clips
    assert len(features) == 5
    assert {one.shape for one in features} == {(4, 6, 32)}


def test_frames_of_a_slice_share_its_features() -> None:
    video, encoder = Video(), tiny_encoder().at_shape(height_px=32, width_px=48)

    features = list(frame_features(encoder, video.read, range(4), clip_frames=4))

    slices = encoder.encode(video.pixels[:, :, :4])[0]
    expected = [slices[0], slices[0], slices[1], slices[1]]
    assert all(torch.equal(one, own) for one, own in zip(features, expected, strict=True))


def test_a_still_frame_depends_on_no_other() -> None:
    video, encoder = Video(), tiny_encoder().at_shape(height_px=32, width_px=48)

    before = list(frame_features(encoder, video.read, range(3), clip_frames=1))
    video.pixels[:, :, [0, 2]] = 0
    after = list(frame_features(encoder, video.read, range(3), clip_frames=1))

    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [False, True, False]


def test_bfloat16_gives_float32_features_that_are_close() -> None:
    video, encoder = Video(), tiny_encoder().at_shape(height_px=32, width_px=48)

    exact, rough = (
        next(frame_features(encoder, video.read, range(1), clip_frames=1, precision=precision))
        for precision in ("fp32", "bf16_autocast")
    )

    assert rough.dtype is torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.1)


def test_weights_that_are_no_numbers_are_refused() -> None:
    video, encoder = Video(), tiny_encoder().at_shape(height_px=32, width_px=48)
    torch.nn.init.constant_(encoder.norm.weight, float("nan"))

    with pytest.raises(StageError, match="features of frames are not finite: these weights are"):
        next(frame_features(encoder, video.read, range(1), clip_frames=1))
