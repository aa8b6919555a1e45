"""Single pictures that become samples."""

import hashlib
import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.data_prep.config import LimitsConfig, TranscodeConfig
from sigma_pipeline.data_prep.image_samples import prepare_image
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.sample import SampleSettings
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.verdicts import Rejected

SETTINGS = SampleSettings(min_frames=16, transcode=None)


def image_item(path: Path, content: bytes) -> Item:
    path.write_bytes(content)
    file = SourceFile(str(path), f"train/n01/{path.name}", len(content))
    return Item(f"train/n01/{path.name}", "image", (file,), "train", "tench", 0)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (200, 30, 30)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png")])
def test_a_picture_keeps_its_bytes_and_is_named_by_its_content(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    data = encoded(kind)

    sample = prepare_image(image_item(tmp_path / "a.JPEG", data), SETTINGS)

    assert sample.members[0] == (suffix[1:], data)
    assert sample.suffix == suffix
    assert sample.sha256 == hashlib.sha256(data).hexdigest()
    facts = sample.probe
    assert (facts.frames, facts.fps, facts.width, facts.height) == (1, 0, 20, 10)
    assert facts.keyframes == (0,)
    description = json.loads(dict(sample.members)["json"])
    assert (description["media"], description["class_name"]) == ("image", "tench")


def test_pictures_are_not_transcoded(tmp_path: Path) -> None:
    data = encoded("JPEG")
    settings = replace(SETTINGS, transcode=TranscodeConfig(short_side_px=4))

    assert prepare_image(image_item(tmp_path / "a.jpg", data), settings).members[0][1] == data


def test_a_damaged_picture_is_rejected_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"corrupt: a\.jpg is no whole JPEG"):
        prepare_image(image_item(tmp_path / "a.jpg", encoded("JPEG")[:-30]), SETTINGS)


@pytest.mark.parametrize("limits", [LimitsConfig(file_gib=1e-7), LimitsConfig(megapixels=1e-4)])
def test_limits_are_kept(tmp_path: Path, limits: LimitsConfig) -> None:
    with pytest.raises(Rejected, match="too_large"):
        prepare_image(
            image_item(tmp_path / "a.jpg", encoded("JPEG")), replace(SETTINGS, limits=limits)
        )


def test_a_row_of_a_packed_file_becomes_the_png_of_its_pixels(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (2, 3, 32, 32), dtype=np.uint8)
    table = {
        "data": pictures.reshape(2, -1), "fine_labels": [0, 1], "coarse_labels": [0, 0],
        "filenames": ["a.png", "b.png"],
    }  # fmt: skip
    (tmp_path / "train").write_bytes(pickle.dumps(table, 2))
    file = SourceFile(str(tmp_path / "train"), "train", 3072, row=1)

    sample = prepare_image(Item("train/00001-b.png", "image", (file,), "train"), SETTINGS)

    image = Image.open(io.BytesIO(dict(sample.members)["png"]))
    assert np.array_equal(np.asarray(image), pictures[1].transpose(1, 2, 0))

    with pytest.raises(Rejected, match="has 2 pictures, none is 2"):
        prepare_image(Item("train/x", "image", (replace(file, row=2),), "train"), SETTINGS)
