"""Folders of frames that become samples."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.data_prep.config import LimitsConfig, TranscodeConfig
from sigma_pipeline.data_prep.frame_samples import prepare_frames
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.keys import sample_key
from sigma_pipeline.data_prep.sample import Sample, SampleSettings
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.verdicts import Rejected
from sigma_pipeline.infra.errors import StageError

SETTINGS = SampleSettings(min_frames=2, transcode=None)
SIZE = (32, 24)


def picture(value: int, kind: str = "JPEG", size: tuple[int, int] = SIZE) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, value, 255 - value)).save(buffer, kind)
    return buffer.getvalue()


def mask(size: tuple[int, int] = SIZE) -> bytes:
    image = Image.new("P", size)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.putpixel((3, 2), 1)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def source_file(folder: Path, name: str, content: bytes) -> SourceFile:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return SourceFile(str(path), name, len(content))


def item_of(folder: Path, frames: dict[str, bytes], masks: dict[str, bytes] | None = None) -> Item:
    return Item(
        "JPEGImages/bear",
        "frames",
        tuple(source_file(folder, f"JPEGImages/bear/{name}", frames[name]) for name in frames),
        "train",
        annotation='{"fps":24}',
        sidecars=tuple(
            source_file(folder, f"Annotations/bear/{name}", content)
            for name, content in (masks or {}).items()
        ),
    )


def three(kind: str = "JPEG", suffix: str = "jpg") -> dict[str, bytes]:
    return {f"{number:05d}.{suffix}": picture(60 * number, kind) for number in (5, 10, 15)}


def ends(sample: Sample) -> Sequence[str]:
    return [end for end, _ in sample.members]


def test_frames_and_masks_keep_their_bytes_and_are_numbered_by_place(tmp_path: Path) -> None:
    frames = three()
    sample = prepare_frames(item_of(tmp_path, frames, {"00010.png": mask()}), SETTINGS)

    assert sample.key == sample_key("JPEGImages/bear")
    assert ends(sample) == ["00000.jpg", "00001.jpg", "00002.jpg", "json", "00001.png"]
    assert [content for _, content in sample.members[:3]] == list(frames.values())
    assert sample.members[4][1] == mask()
    assert sample.suffix == ".jpg"
    assert sample.sha256 == hashlib.sha256(b"".join(frames.values())).hexdigest()


def test_facts_are_those_of_the_frames_and_of_the_annotation(tmp_path: Path) -> None:
    sample = prepare_frames(item_of(tmp_path, three()), SETTINGS)

    facts = sample.probe
    assert (facts.frames, facts.width, facts.height, facts.fps) == (3, 32, 24, 24)
    description = json.loads(dict(sample.members)["json"])
    assert (description["media"], description["frames"]) == ("frames", 3)
    assert description["annotation"] == {"fps": 24}


def test_masks_of_png_frames_have_names_of_their_own(tmp_path: Path) -> None:
    sample = prepare_frames(item_of(tmp_path, three("PNG", "png"), {"00005.png": mask()}), SETTINGS)

    assert ends(sample) == ["00000.png", "00001.png", "00002.png", "json", "00000.mask.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"00010.jpg": picture(0)[:-40]}, r"corrupt: frame 00010\.jpg is no whole JPEG"),
        ({"00010.jpg": b""}, r"frame 00010\.jpg is no whole .*: it is empty"),
        (
            {"00010.jpg": picture(0, size=(32, 25))},
            r"corrupt: frame 00010\.jpg is 32 x 25 \.jpg, the first 32 x 24 \.jpg",
        ),
        ({"00010.jpg": picture(0, "PNG")}, r"frame 00010\.jpg is 32 x 24 \.png, the first"),
    ],
)
def test_a_frame_that_is_damaged_or_differs_rejects_all(
    tmp_path: Path, change: dict[str, bytes], message: str
) -> None:
    with pytest.raises(Rejected, match=message):
        prepare_frames(item_of(tmp_path, three() | change), SETTINGS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("00011.png", mask(), r"bad_sidecar: bear/00011\.png: there is no frame of that name"),
        ("00010.png", mask((31, 24)), r"bear/00010\.png has size \(31, 24\), the video \(32, 24\)"),
        ("00010.png", picture(3, "PNG"), r"bear/00010\.png holds RGB colours"),
    ],
)
def test_a_mask_that_does_not_fit_rejects_all(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(Rejected, match=message):
        prepare_frames(item_of(tmp_path, three(), {name: content}), SETTINGS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SampleSettings(4, None), "too_short: frames: 3; needed: 4"),
        (SampleSettings(2, None, LimitsConfig(frames=2)), "too_large: frames: 3, the limit is 2"),
        (SampleSettings(2, None, LimitsConfig(file_gib=1e-6)), "too_large: frames and masks have"),
        (SampleSettings(2, None, LimitsConfig(megapixels=5e-4)), r"too_large: frame 00005\.jpg"),
    ],
)
def test_limits_are_kept(tmp_path: Path, settings: SampleSettings, message: str) -> None:
    with pytest.raises(Rejected, match=message):
        prepare_frames(item_of(tmp_path, three()), settings)


def test_a_frame_that_went_stops_the_stage(tmp_path: Path) -> None:
    item = item_of(tmp_path, three())
    Path(item.files[1].path).unlink()

    with pytest.raises(StageError, match=r"00010\.jpg' is gone"):
        prepare_frames(item, SETTINGS)


def test_transcoded_frames_become_a_video_with_masks_of_its_size(tmp_path: Path) -> None:
    item = item_of(tmp_path, three(), {"00010.png": mask()})
    settings = SampleSettings(2, TranscodeConfig(short_side_px=12, disposable_frames=1))

    sample = prepare_frames(item, settings)

    assert sample.item.media == "video"
    assert (sample.suffix, ends(sample)) == (".mp4", ["mp4", "json", "00001.png"])
    facts = sample.probe
    assert (facts.frames, facts.width, facts.height) == (3, 16, 12)
    assert facts.fps == pytest.approx(24)
    assert sample.frame_grid == 2
    resized = Image.open(io.BytesIO(dict(sample.members)["00001.png"]))
    assert (resized.mode, resized.size) == ("P", (16, 12))
    assert set(np.unique(np.asarray(resized))) <= {0, 1}
