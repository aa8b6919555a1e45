"""Annotations and masks beside a video."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.data_prep.probe import Probe
from sigma_pipeline.data_prep.sidecars import read_annotation, read_masks, resize_mask
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.verdicts import Rejected

FACTS = Probe(4, 10.0, 6, 4, 0, (0,), (0,), "h264", "mov,mp4")


def png(width: int = 6, height: int = 4, mode: str = "P") -> bytes:
    image = Image.new(mode, (width, height))
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.putpixel((width - 1, height - 1), 1)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def sidecar(folder: Path, name: str, content: bytes) -> SourceFile:
    path = folder / name
    path.write_bytes(content)
    return SourceFile(str(path), f"a.masks/{name}", len(content))


def test_an_annotation_is_brought_to_one_form(tmp_path: Path) -> None:
    file = sidecar(tmp_path, "a.json", b'{ "b": 1.5,\n "a": "\xc3\xa9" }')

    assert read_annotation([file]) == '{"a":"\\u00e9","b":1.5}'
    assert read_annotation([]) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[" * 10**5])
def test_an_annotation_that_is_not_json_rejects_the_video(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Rejected, match=r"bad_sidecar: a\.masks/a\.json is not JSON"):
        read_annotation([sidecar(tmp_path, "a.json", content)])


def test_masks_are_read_by_frame_number(tmp_path: Path) -> None:
    files = [sidecar(tmp_path, name, png()) for name in ("00003.png", "1.png")]

    assert read_masks(files, FACTS) == {1: png(), 3: png()}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("frame1.png", png(), "not named <frame>.png"),
        ("00004.png", png(), "the video has 4 frames"),
        ("00000.png", png(width=5), r"has size \(5, 4\), the video \(6, 4\)"),
        ("00000.png", png(mode="RGB"), "holds RGB colours"),
        ("00000.png", png()[:40], "is not a PNG picture"),
        ("00000.png", b"GIF89a", "is not a PNG picture"),
    ],
)
def test_a_mask_that_does_not_fit_rejects_the_video(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(Rejected, match=message):
        read_masks([sidecar(tmp_path, name, content)], FACTS)


def test_two_masks_of_one_frame_reject_the_video(tmp_path: Path) -> None:
    files = [sidecar(tmp_path, name, png()) for name in ("1.png", "00001.png")]

    with pytest.raises(Rejected, match="two masks of frame 1"):
        read_masks(files, FACTS)


def test_a_resized_mask_keeps_its_object_ids_and_colours() -> None:
    image = Image.open(io.BytesIO(resize_mask(png(), 12, 8)))

    assert image.size == (12, 8)
    assert np.unique(np.asarray(image)).tolist() == [0, 1]
    assert np.asarray(image).sum() == 4
    assert image.getpalette()[:6] == [0, 0, 0, 255, 0, 0]  # type: ignore[index]
