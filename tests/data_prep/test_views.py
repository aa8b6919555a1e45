"""Evaluation sees each sample once, in the middle; masks lie where the frames are."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from sigma_pipeline.data_prep.config import MultiViewConfig, ViewConfig
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.views import NO_MASK, ViewLoader, load_masks
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage

Split = tuple[Storage, Index]
MakeSplit = Callable[..., Split]


def png(ids: np.ndarray, mode: str = "P") -> bytes:
    buffer = BytesIO()
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette(list(range(256)) * 3)
    image.convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b""))
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def view_of(split: Split, workers: int = 0, view: ViewConfig | None = None) -> ViewLoader:
    return ViewLoader(
        *split,
        view=view or ViewConfig(),
        num_frames=4,
        frame_size_px=32,
        batch_clips=5,
        workers=workers,
    )


def masks_of(split: Split, frames: list[int], crop: str = "centre") -> np.ndarray:
    return load_masks(*split, 0, frames, frame_size_px=32, crop=crop)  # type: ignore[arg-type]


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


@pytest.mark.parametrize("crop", ["centre", "resize"])
@pytest.mark.parametrize("mode", ["P", "L"])
def test_masks_cover_the_objects_of_the_clip(make_split: MakeSplit, crop: str, mode: str) -> None:
    video, ids = square_video()
    masks = {frame: png(ids[frame], mode) for frame in range(6)}
    split = make_split([video], {0: masks})
    view = ViewConfig(frame_stride=1, crop=crop)  # type: ignore[arg-type]

    (batch,) = view_of(split, view=view)
    shown = masks_of(split, [1, 2, 3, 4], crop)

    assert shown.shape == (4, 32, 32)
    assert set(np.unique(shown)) == {0, 3}
    agreement = (shown == 3) == (batch.clip[0, 0].numpy() > 120)
    assert agreement.mean() > 0.99


def test_masks_come_in_the_order_of_the_frames(make_split: MakeSplit) -> None:
    video, _ = square_video()
    masks = {frame: png(np.full((48, 80), frame, dtype=np.uint8)) for frame in range(6)}

    shown = masks_of(make_split([video], {0: masks}), [4, 0, 0, 5])

    assert shown[:, 0, 0].tolist() == [4, 0, 0, 5]


def test_frames_without_a_mask_are_marked_so(make_split: MakeSplit) -> None:
    video, ids = square_video()
    split = make_split([video], {0: {2: png(ids[2])}})

    shown = masks_of(split, [1, 2])

    assert (shown[0] == NO_MASK).all()
    assert (shown[1] != NO_MASK).all()


def test_masks_of_the_size_before_transcoding_are_taken(make_split: MakeSplit) -> None:
    video, ids = square_video()
    large = ids[1].repeat(3, axis=0).repeat(3, axis=1)

    shown = masks_of(make_split([video], {0: {0: png(ids[1]), 1: png(large)}}), [0, 1])

    assert (shown[0] == shown[1]).mean() > 0.97


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (png(np.zeros((80, 48), dtype=np.uint8)), "is 48 x 80, but the video 80 x 48"),
        (png(np.zeros((48, 80), dtype=np.uint8), "RGB"), "8-bit palette or grey PNG, not RGB"),
        (png_that_claims(1 << 13, (1 << 13) + 1), "above the limit of 67108864"),
        (png(np.zeros((48, 80), dtype=np.uint8))[:-30], "cannot be read"),
        (b"GIF89a", "cannot be read"),
    ],
    ids=["other shape", "colours", "too large", "cut short", "no png"],
)
def test_what_is_no_mask_is_named(make_split: MakeSplit, mask: bytes, message: str) -> None:
    video, _ = square_video()
    split = make_split([video], {0: {3: mask}})

    with pytest.raises(StageError, match=r"mask of frame 3 of sample clip-0 \(source .*" + message):
        masks_of(split, [3])
