"""Masks lie where the frames are, and are refused where they are none."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.masks import NO_MASK, load_masks, load_whole_masks
from sigma_pipeline.data_prep.view_plans import view_frames
from sigma_pipeline.data_prep.views import ViewLoader
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


def masks_of(split: Split, frames: list[int], crop: str = "centre") -> np.ndarray:
    return load_masks(*split, 0, frames, frame_size_px=32, crop=crop)  # type: ignore[arg-type]


def square_video(height: int = 48, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A bright square that moves right over black, and its ids (0 and 3)."""
    ids = np.zeros((6, height, width), dtype=np.uint8)
    for frame in range(6):
        ids[frame, 16:32, 20 + 4 * frame : 36 + 4 * frame] = 3
    return np.repeat(ids[..., None] * 80, 3, axis=3), ids


@pytest.mark.parametrize("crop", ["centre", "resize"])
@pytest.mark.parametrize("mode", ["P", "L"])
def test_masks_cover_the_objects_of_the_clip(make_split: MakeSplit, crop: str, mode: str) -> None:
    video, ids = square_video()
    masks = {frame: png(ids[frame], mode) for frame in range(6)}
    split = make_split([video], {0: masks})
    view = ViewConfig(frame_stride=1, crop=crop)  # type: ignore[arg-type]

    loader = ViewLoader(*split, view=view, num_frames=4, frame_size_px=32, batch_clips=5)
    (batch,) = loader
    shown = masks_of(split, [1, 2, 3, 4], crop)

    assert shown.shape == (4, 32, 32)
    assert set(np.unique(shown)) == {0, 3}
    agreement = (shown == 3) == (batch.clip[0, 0].numpy() > 120)
    assert agreement.mean() > 0.99


def test_masks_of_random_frames_are_of_the_clips_own_frames(make_split: MakeSplit) -> None:
    video, ids = square_video()
    masks = {frame: png(ids[frame]) for frame in range(6)}
    split = make_split([video] * 3, dict.fromkeys(range(3), masks))
    view = ViewConfig(sampling="random", crop="resize")

    loader = ViewLoader(*split, view=view, num_frames=3, frame_size_px=32, batch_clips=5)
    (batch,) = loader

    for sample, clip in enumerate(batch.clip):
        (frames,) = view_frames(6, 3, view, sample)
        shown = load_masks(*split, sample, frames.tolist(), frame_size_px=32, crop="resize")
        assert ((shown == 3) == (clip[0].numpy() > 120)).mean() > 0.99


def test_the_high_id_is_an_object_where_a_sample_shows_no_other(make_split: MakeSplit) -> None:
    video, ids = square_video()
    binary = {frame: png(np.where(ids[frame] > 0, 255, 0).astype(np.uint8)) for frame in range(5)}
    numbered = binary | {4: png(ids[4])}

    grey = masks_of(make_split([video], {0: binary}), [1, 2, 5])
    void = masks_of(make_split([video], {0: numbered}), [1, 2, 5])

    assert set(np.unique(grey[:2])) == {0, 1}
    assert set(np.unique(void[:2])) == {0, NO_MASK}
    assert (grey[2] == NO_MASK).all()


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
        (png(np.zeros((48, 80), dtype=np.uint8))[:-30], "cannot be read: .*shards repair .*/"),
        (
            b"GIF89a",
            r"cannot be read: the content is another\. Mend it with: sigma-pipeline shards",
        ),
    ],
    ids=["other shape", "colours", "too large", "cut short", "no png"],
)
def test_what_is_no_mask_is_named(make_split: MakeSplit, mask: bytes, message: str) -> None:
    video, _ = square_video()
    split = make_split([video], {0: {3: mask}})

    with pytest.raises(StageError, match=r"mask of frame 3 of sample clip-0 \(source .*" + message):
        masks_of(split, [3])


def test_whole_masks_are_those_of_the_frames_that_have_one_at_their_own_size(
    make_split: MakeSplit,
) -> None:
    video, ids = square_video()
    larger = {frame: ids[frame].repeat(2, axis=0).repeat(2, axis=1) for frame in (1, 4)}
    split = make_split([video, video], {0: {f: png(mask) for f, mask in larger.items()}})

    found = load_whole_masks(*split, 0)

    assert list(found) == [1, 4]
    assert all(np.array_equal(found[frame], larger[frame]) for frame in found)
    assert load_whole_masks(*split, 1) == {}


def test_whole_masks_of_several_sizes_are_refused(make_split: MakeSplit) -> None:
    video, ids = square_video()
    small = png(ids[1][::2, ::2])
    split = make_split([video], {0: {0: png(ids[0]), 1: small}})

    with pytest.raises(StageError, match=r"masks of sample clip-0 .* are 40 x 24 and 80 x 48 pix"):
        load_whole_masks(*split, 0)
