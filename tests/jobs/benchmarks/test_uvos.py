"""Clustering benchmark: clips whose right answer is known."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from sigma_pipeline.jobs.benchmarks.benchmark import VOID_ID, FeatureSet
from sigma_pipeline.jobs.benchmarks.uvos import UnsupervisedVos, nearest_centres, sampled_pixels

SIZE = 12  # pixels of a frame; tokens are 6 x 6


def _features(masks: npt.NDArray[np.uint8], tokens: npt.NDArray[np.float16]) -> FeatureSet:
    count = len(masks)
    return FeatureSet(
        keys=[f"clip{i}" for i in range(count)],
        groups=[None] * count,
        labels=np.full(count, -1),
        num_classes=0,
        pooled=np.zeros((count, 1), dtype=np.float32),
        tokens=tokens,
        masks=masks,
    )


def _objects(ids: Sequence[int]) -> npt.NDArray[np.uint8]:
    """A clip of 4 frames [1, 4, 12, 12]: object ``ids[i]`` fills the i-th band of columns."""
    bands = np.repeat(np.asarray(ids, dtype=np.uint8), SIZE // len(ids))
    return np.broadcast_to(bands, (1, 4, SIZE, SIZE)).copy()


def _tokens(masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
    """One-hot object ids on the token grid: [1, 2, 6, 6, 8]."""
    return np.eye(8, dtype=np.float16)[masks[:, ::2, ::2, ::2]] * 4


@pytest.mark.parametrize("fit_on", ["tokens", "pixels"])
def test_tokens_that_tell_objects_apart_score_near_one(fit_on: str) -> None:
    masks = _objects([0, 1, 2])

    result = UnsupervisedVos(fit_on=fit_on).scores(None, _features(masks, _tokens(masks)), seed=0)

    miou, miou_over = result.scores
    assert (miou.name, miou.value) == ("miou", 1.0)
    assert miou_over.value > 0.9
    assert result.outcomes["objects"] == [3]


def test_tokens_that_say_nothing_score_as_one_cluster() -> None:
    masks = _objects([0, 0, 0, 1])
    collapsed = np.ones((1, 2, 6, 6, 8), dtype=np.float16)

    result = UnsupervisedVos().scores(None, _features(masks, collapsed), seed=0)

    # All pixels in one cluster: background 3/4 and the object missed.
    assert [score.value for score in result.scores] == pytest.approx([0.375, 0.375])


def test_iou_is_pooled_over_the_frames_of_a_clip() -> None:
    masks = _objects([0, 1])
    seen = masks.copy()
    seen[:, 2:] = 0  # the second time slice shows the object as background

    result = UnsupervisedVos(restarts=5).scores(None, _features(masks, _tokens(seen)), seed=0)

    # Object: half of it found. Background: 1/2 of the pixels, of 3/4 that are called so.
    assert result.scores[0].value == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_void_pixels_are_not_scored_and_are_no_object() -> None:
    masks = _objects([0, 1, 2])
    tokens = _tokens(masks)
    masks[masks == 2] = VOID_ID

    result = UnsupervisedVos().scores(None, _features(masks, tokens), seed=0)

    assert result.outcomes["objects"] == [2]


def test_clips_without_masks_are_left_out_with_a_word() -> None:
    masks = np.concatenate([_objects([0, 1]), np.full((1, 4, SIZE, SIZE), VOID_ID, np.uint8)])
    tokens = np.concatenate([_tokens(masks[:1])] * 2)

    result = UnsupervisedVos().scores(None, _features(masks, tokens), seed=0)

    assert result.outcomes["key"] == ["clip0"]
    assert result.scores[0].samples == 1
    assert result.notes == ("1 of 2 samples have no mask: left out",)
    with pytest.raises(ValueError, match="no sample has an annotated pixel"):
        UnsupervisedVos().scores(None, _features(masks[1:], tokens[1:]), seed=0)


def test_a_clip_scores_the_same_alone_and_in_company() -> None:
    generator = np.random.default_rng(0)
    masks = np.concatenate([_objects([0, 1, 2]), _objects([0, 1])])
    tokens = generator.standard_normal((2, 2, 6, 6, 8)).astype(np.float16)

    both = UnsupervisedVos().scores(None, _features(masks, tokens), seed=3)
    alone = UnsupervisedVos().scores(None, _features(masks[1:], tokens[1:]), seed=3)

    assert both.outcomes["miou"][1] == alone.outcomes["miou"][0]


def test_pixels_go_to_the_centre_nearest_to_their_upsampled_feature() -> None:
    generator = torch.Generator().manual_seed(0)
    grid = torch.randn(2, 3, 3, 5, generator=generator)
    centres = torch.randn(4, 5, generator=generator)

    maps = nearest_centres(grid, centres, (9, 9))

    upsampled = F.interpolate(grid.permute(0, 3, 1, 2), size=(9, 9), mode="bilinear")
    distances = torch.cdist(upsampled.permute(0, 2, 3, 1).flatten(0, 2), centres)
    assert torch.equal(maps.flatten(), distances.argmin(dim=1))


def test_sampled_pixels_are_the_upsampled_features() -> None:
    grid = torch.randn(2, 3, 3, 5, generator=torch.Generator().manual_seed(0))

    everything = sampled_pixels(grid, (7, 9), limit=10_000, seed=0)

    upsampled = F.interpolate(grid.permute(0, 3, 1, 2), size=(7, 9), mode="bilinear")
    torch.testing.assert_close(everything, upsampled.permute(0, 2, 3, 1).flatten(0, 2))
    assert len(sampled_pixels(grid, (7, 9), limit=20, seed=0)) == 20
