"""Clips out of decoded frames: the right part, the right way up, in the right colours."""

import pickle
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from PIL import Image

from sigma_pipeline.data_prep.augment import Crop, cut_masks, whole_frame
from sigma_pipeline.data_prep.convert import Converter, Picture, decoded_bytes
from sigma_pipeline.data_prep.decode_clip import decoded
from sigma_pipeline.data_prep.decode_open import opened
from sigma_pipeline.data_prep.verdicts import Rejected


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture without hard edges: resizing and half the colour resolution change it little."""
    small = np.random.default_rng(seed).integers(60, 195, (4, 5, 3), np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return np.array(image)


def frame_of(picture: np.ndarray, pixels: str = "yuv420p") -> VideoFrame:
    return VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24").reformat(format=pixels)


def clip_of(
    frames: dict[int, VideoFrame], wanted: list[int], picture: Picture, crop: Crop, size: int = 32
) -> np.ndarray:
    """[frames, size, size, 3]."""
    clip = torch.full((3, len(wanted), size, size), 7, dtype=torch.uint8)
    Converter().fill(clip, frames, wanted, picture=picture, crop=crop)
    return clip.permute(1, 2, 3, 0).numpy()


def by_pillow(picture: np.ndarray, crop: Crop, size: int = 32) -> np.ndarray:
    box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
    image = Image.fromarray(np.ascontiguousarray(picture)).crop(box)
    resized = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    return resized[:, ::-1] if crop.is_flipped else resized


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuvj420p", "gbrp", "rgb24", "nv12"])
@pytest.mark.parametrize("crop", [Crop(0, 0, 96, 128), Crop(12, 20, 60, 40), Crop(8, 16, 67, 81)])
@pytest.mark.parametrize("size", [16, 33, 64])
def test_a_crop_is_what_pillow_gives(pixels: str, crop: Crop, size: int) -> None:
    picture = smooth(96, 128)

    clip = clip_of({3: frame_of(picture, pixels)}, [3], Picture(96, 128, 0), crop, size)

    assert np.abs(clip[0] - by_pillow(picture, crop, size)).mean() < 1.5


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [Crop(0, 0, 96, 128), Crop(12, 20, 60, 43), Crop(7, 13, 40, 101)])
@pytest.mark.parametrize("is_flipped", [False, True])
def test_the_crop_is_taken_of_the_upright_picture(
    rotation: int, crop: Crop, is_flipped: bool
) -> None:
    upright = smooth(96, 128)
    stored = np.rot90(upright, -rotation // 90)
    crop = Crop(crop.top, crop.left, crop.height, crop.width, is_flipped)

    clip = clip_of({0: frame_of(stored)}, [0], Picture(96, 128, rotation), crop)

    assert np.abs(clip[0] - by_pillow(upright, crop)).mean() < 2


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (33, 57), (64, 24)])
def test_a_clip_may_be_of_another_shape_than_a_square(
    rotation: int, height: int, width: int
) -> None:
    upright = smooth(96, 128)
    frames = {0: frame_of(np.rot90(upright, -rotation // 90))}
    clip = torch.empty(3, 1, height, width, dtype=torch.uint8)

    Converter().fill(
        clip, frames, [0], picture=Picture(96, 128, rotation), crop=Crop(0, 0, 96, 128)
    )

    image = Image.fromarray(upright).resize((width, height), Image.Resampling.BILINEAR)
    assert np.abs(clip[:, 0].permute(1, 2, 0).numpy() - np.asarray(image).astype(int)).mean() < 1.5


def test_mirroring_changes_no_value() -> None:
    frames, picture = {0: frame_of(smooth(48, 64))}, Picture(48, 64, 0)

    straight = clip_of(frames, [0], picture, Crop(2, 4, 40, 30))
    mirrored = clip_of(frames, [0], picture, Crop(2, 4, 40, 30, is_flipped=True))

    assert np.array_equal(mirrored, straight[:, :, ::-1])


def test_frames_come_in_the_wanted_order_and_may_repeat() -> None:
    frames = {n: frame_of(np.full((32, 32, 3), 20 * n, np.uint8)) for n in (1, 4, 9)}

    clip = clip_of(frames, [9, 1, 4, 1, 9], Picture(32, 32, 0), whole_frame(32, 32))

    means = clip.mean(axis=(1, 2, 3))
    assert np.abs(means - 20 * np.array([9, 1, 4, 1, 9])).max() < 2


def test_frames_of_another_size_take_that_of_the_picture() -> None:
    frames = {0: frame_of(smooth(48, 64)), 1: frame_of(smooth(96, 128))}
    crop = Crop(6, 10, 30, 20)

    clip = clip_of(frames, [0, 1], Picture(48, 64, 0), crop)

    assert np.abs(clip[0].astype(int) - clip[1]).mean() < 4


def test_formats_may_change_on_the_way() -> None:
    picture = smooth(48, 64)
    frames = {0: frame_of(picture), 1: frame_of(picture, "yuv444p"), 2: frame_of(picture, "rgb24")}

    clip = clip_of(frames, [0, 1, 2], Picture(48, 64, 0), Crop(6, 10, 30, 20)).astype(int)

    assert np.abs(clip - clip[2]).mean() < 1.5


@pytest.mark.parametrize("size", [240, 64])
def test_colours_are_those_that_libav_gives_for_the_frame(real_videos: Path, size: int) -> None:
    data = (real_videos / "actions/arid/Jump/Jump_8_3.mp4").read_bytes()
    with opened(data) as (container, stream):
        frame = next(decoded(container, stream))

    clip = clip_of({0: frame}, [0], Picture(240, 320, 0), Crop(0, 40, 240, 240), size)

    assert (frame.colorspace, frame.color_range) != (2, 0)  # it says what its colours mean
    expected = by_pillow(frame.to_ndarray(format="rgb24"), Crop(0, 40, 240, 240), size)
    assert np.abs((clip[0] - expected).mean(axis=(0, 1))).max() < 1.5


def test_ten_bits_and_transparency_are_no_hindrance(real_videos: Path) -> None:
    for name in ("hdr_10bit/h264_10bits.mp4", "gif/circle.gif"):
        with opened((real_videos / "odd" / name).read_bytes()) as (container, stream):
            frame = next(decoded(container, stream))
        crop = Crop(20, 30, 80, 64)
        picture = Picture(frame.height, frame.width, 0)

        clip = clip_of({0: frame}, [0], picture, crop)

        expected = by_pillow(frame.to_ndarray(format="rgb24"), crop)
        assert np.abs(clip[0] - expected).mean() < 3


def test_masks_are_cut_where_the_frames_are() -> None:
    ids = np.zeros((40, 60), dtype=np.uint8)
    ids[10:20, 30:50] = 7
    crop = Crop(4, 12, 32, 32, is_flipped=True)

    masks = cut_masks(ids[None], crop, 16)[0].numpy()
    frame = frame_of(np.repeat(ids[..., None], 3, axis=2) * 30)
    clip = clip_of({0: frame}, [0], Picture(40, 60, 0), crop, 16)

    assert set(np.unique(masks)) == {0, 7}
    assert np.array_equal(masks == 7, clip[0, ..., 1] > 105)


def test_the_same_frames_give_the_same_bytes_each_time() -> None:
    frames, picture = {0: frame_of(smooth(241, 321))}, Picture(241, 321, 0)

    clips = [clip_of(frames, [0], picture, Crop(10, 6, 201, 180), 224) for _ in range(3)]

    assert np.array_equal(clips[0], clips[1])
    assert np.array_equal(clips[0], clips[2])


def test_memory_of_frames_is_counted_with_their_colours() -> None:
    frames = {0: frame_of(smooth(48, 64)), 5: frame_of(smooth(48, 64), "yuv444p")}

    assert decoded_bytes(frames) >= 48 * 64 * (1.5 + 3)


def test_what_libav_cannot_convert_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> VideoFrame:
        raise av.FFmpegError(1, "no way")

    monkeypatch.setattr("sigma_pipeline.data_prep.convert.Converter._cut", fail)

    with pytest.raises(Rejected, match="a frame cannot be converted: no way"):
        clip_of({0: frame_of(smooth(8, 8))}, [0], Picture(8, 8, 0), whole_frame(8, 8))


def test_one_converter_serves_clips_of_all_kinds_one_after_another() -> None:
    converter = Converter()
    pictures = {(h, w): smooth(h, w) for h in (40, 48) for w in range(64, 100, 2)}
    kinds = [(shape, pixels) for shape in pictures for pixels in ("yuv420p", "yuv444p")]
    for number, (shape, pixels) in enumerate(2 * kinds):
        frames, picture = {0: frame_of(pictures[shape], pixels)}, Picture(*shape, 0)
        for crop in (Crop(2, 4, 30, 20 + number % 7), Crop(6, 0, 20, 33), whole_frame(*shape)):
            clip = torch.zeros(3, 1, 32, 32, dtype=torch.uint8)
            converter.fill(clip, frames, [0], picture=picture, crop=crop)

            alone = clip_of(frames, [0], picture, crop)
            assert np.array_equal(clip.permute(1, 2, 3, 0).numpy(), alone)


def test_a_converter_can_be_sent_to_another_process() -> None:
    assert isinstance(pickle.loads(pickle.dumps(Converter())), Converter)
