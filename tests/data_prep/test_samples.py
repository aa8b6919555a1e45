"""From a source file to a sample."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.data_prep.config import TranscodeConfig
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.sample import Sample, SampleSettings
from sigma_pipeline.data_prep.samples import prepare
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.verdicts import Rejected
from sigma_pipeline.infra.errors import StageError

COPY = SampleSettings(min_frames=2, transcode=None)
SMALL = SampleSettings(min_frames=2, transcode=TranscodeConfig(short_side_px=12))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A video of 6 frames, 24x40 pixels."""
    path = tmp_path / "a.mp4"
    write_video(path, np.zeros((6, 24, 40, 3), np.uint8), fps=10, crf=20, gop_frames=6)
    return path


def prepared(path: Path, name: str = "walk/a.mp4", settings: SampleSettings = COPY) -> Sample:
    file = SourceFile(str(path), name, path.stat().st_size)
    return prepare(Item(file.name, "video", (file,), "train", "walk", label=2), settings)


def test_a_copied_video_keeps_its_bytes(path: Path) -> None:
    sample = prepared(path)

    members = dict(sample.members)
    assert members.keys() == {"mp4", "json"}
    assert members["mp4"] == path.read_bytes()
    assert sample.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_description_says_what_it_is(path: Path) -> None:
    description = json.loads(dict(prepared(path).members)["json"])

    assert description["class_name"] == "walk"
    assert description["label"] == 2
    assert description["source"] == "walk/a.mp4"
    assert description["frames"] == 6


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.MP4", ".mp4"), ("a.MoV", ".mov"), ("a", ".mp4"), ("a.part", ".mp4")]
)
def test_the_member_is_called_after_the_file_or_else_its_container(
    path: Path, name: str, suffix: str
) -> None:
    assert prepared(path, name).suffix == suffix


def test_a_transcoded_video_is_described_as_it_is_stored(path: Path) -> None:
    sample = prepared(path, "a.avi", SMALL)

    assert (sample.suffix, sample.probe.width, sample.probe.height) == (".mp4", 20, 12)
    assert sample.sha256 == hashlib.sha256(dict(sample.members)["mp4"]).hexdigest()


@pytest.mark.parametrize(("settings", "size"), [(COPY, (40, 24)), (SMALL, (20, 12))])
def test_annotation_and_masks_go_into_the_sample_at_the_size_of_its_video(
    path: Path, settings: SampleSettings, size: tuple[int, int]
) -> None:
    (path.parent / "a.json").write_text('{"repetitions": 3}')
    Image.new("P", (40, 24)).save(path.parent / "00002.png")
    sidecars = tuple(
        SourceFile(str(path.parent / name), f"a.masks/{name}", 1)
        for name in ("a.json", "00002.png")
    )
    file = SourceFile(str(path), "a.mp4", path.stat().st_size)

    sample = prepare(Item(file.name, "video", (file,), "train", None, sidecars=sidecars), settings)

    members = dict(sample.members)
    assert members.keys() == {"mp4", "json", "00002.png"}
    assert Image.open(io.BytesIO(members["00002.png"])).size == size
    assert sample.annotation == '{"repetitions":3}'
    assert json.loads(members["json"])["annotation"] == {"repetitions": 3}


def test_a_file_that_changed_since_it_was_listed_stops_the_stage(path: Path) -> None:
    file = SourceFile(str(path), "a.mp4", 5)

    with pytest.raises(StageError, match="instead of 5"):
        prepare(Item(file.name, "video", (file,), "train", None), COPY)


def test_a_file_that_is_gone_stops_the_stage(path: Path) -> None:
    file = SourceFile(str(path.with_name("b.mp4")), "b.mp4", 5)

    with pytest.raises(StageError, match="is gone"):
        prepare(Item(file.name, "video", (file,), "train", None), COPY)


def test_a_file_too_large_to_hold_is_not_read(path: Path) -> None:
    file = SourceFile(str(path), "a.mp4", 5 << 30)

    with pytest.raises(Rejected, match="too_large: 5368709120 bytes"):
        prepare(Item(file.name, "video", (file,), "train", None), COPY)
