"""Evaluation sees each sample once, in the middle."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sigma_pipeline.data_prep.config import MultiViewConfig, ViewConfig
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.views import ViewLoader
from sigma_pipeline.infra.storage import Storage

Split = tuple[Storage, Index]
MakeSplit = Callable[..., Split]


def view_of(split: Split, workers: int = 0, view: ViewConfig | None = None) -> ViewLoader:
    return ViewLoader(
        *split,
        view=view or ViewConfig(),
        num_frames=4,
        frame_size_px=32,
        batch_clips=5,
        workers=workers,
    )


def square_video(height: int = 48, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A bright square that moves right over black, and its ids (0 and 3)."""
    ids = np.zeros((6, height, width), dtype=np.uint8)
    for frame in range(6):
        ids[frame, 16:32, 20 + 4 * frame : 36 + 4 * frame] = 3
    return np.repeat(ids[..., None] * 80, 3, axis=3), ids


def test_every_sample_comes_exactly_once_in_the_order_of_the_index(coloured_split: Split) -> None:
    batches = list(view_of(coloured_split))

    assert [len(batch.clip) for batch in batches] == [5, 5, 3]
    assert torch.cat([batch.samples for batch in batches]).tolist() == list(range(13))
    assert torch.cat([batch.positions for batch in batches]).tolist() == list(range(13))
    assert torch.cat([batch.labels for batch in batches]).tolist() == [n % 3 for n in range(13)]
    assert {batch.epoch for batch in batches} == {0}


def test_several_views_of_a_video_stand_side_by_side_in_one_batch(coloured_split: Split) -> None:
    view = MultiViewConfig(segments=2, crops=3, frame_stride=1)

    batches = list(view_of(coloured_split, view=view))

    assert [len(batch.clip) for batch in batches] == [6] * 13  # no video is cut in two
    assert torch.cat([batch.samples for batch in batches]).tolist() == [
        row for row in range(13) for _ in range(6)
    ]
    assert torch.cat([batch.positions for batch in batches]).tolist() == list(range(78))


def test_each_view_is_the_clip_and_the_square_it_should_be(make_split: MakeSplit) -> None:
    frames, _ = square_video()
    loader = view_of(
        make_split([frames]), view=MultiViewConfig(segments=2, crops=3, frame_stride=1)
    )

    (batch,) = loader
    bright = (batch.clip.float().mean(dim=1) > 100).float().sum(dim=(-1, -2))  # [views, frames]

    # The square of the frame moves from column 20 to 56 of 80: the left third loses it, the right
    # one gains it, and the second clip is later.
    assert bright[0, 0] > 0
    assert bright[2, 0] < bright[0, 0]
    assert bright[5, -1] > bright[2, 0]


def test_a_view_can_be_gone_through_again(coloured_split: Split) -> None:
    view = view_of(coloured_split)

    for first, second in zip(view, view, strict=True):
        assert torch.equal(first.clip, second.clip)


def test_the_frames_are_those_in_the_middle(coloured_split: Split) -> None:
    batch = next(iter(view_of(coloured_split)))

    green = batch.clip[:, 1].double().mean(dim=(2, 3))
    expected = 20.0 * torch.tensor([2, 4, 6, 8], dtype=torch.float64)
    torch.testing.assert_close(green, expected.expand_as(green), atol=8, rtol=0)


@pytest.mark.parametrize(("crop", "left", "right"), [("centre", 32, 223), ("resize", 0, 255)])
def test_the_crop_is_the_one_asked_for(
    coloured_split: Split, crop: str, left: int, right: int
) -> None:
    view = ViewConfig(crop=crop)  # type: ignore[arg-type]

    blue = next(iter(view_of(coloured_split, view=view))).clip[0, 2, 0, 16].int()

    assert blue[0] == pytest.approx(left, abs=8)
    assert blue[-1] == pytest.approx(right, abs=8)


@pytest.mark.slow
def test_decoding_processes_give_the_same_view(coloured_split: Split) -> None:
    in_processes = view_of(coloured_split, workers=2)

    for ours, theirs in zip(in_processes, view_of(coloured_split), strict=True):
        assert torch.equal(ours.clip, theirs.clip)
        assert torch.equal(ours.samples, theirs.samples)
