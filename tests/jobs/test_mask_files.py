"""Reading object ids: what is taken, and the sentence that refuses the rest."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.jobs.mask_files import (
    frame_files,
    read_ids,
    read_stack,
    sequence_names,
    with_binary_as_object,
)
from tests.mask_folders import two_objects, write_sequence


def test_ids_are_read_as_they_were_written(tmp_path: Path) -> None:
    ids = two_objects()
    files = frame_files(write_sequence(tmp_path / "bear", ids))

    assert list(files) == ["00000", "00001", "00002", "00003", "00004"]
    assert np.array_equal(read_stack(list(files.values())), ids)


def test_grey_pictures_are_ids_too(tmp_path: Path) -> None:
    ids = two_objects()[0]
    Image.fromarray(ids).save(tmp_path / "grey.png")

    assert np.array_equal(read_ids(tmp_path / "grey.png"), ids)


def truncated(path: Path) -> None:
    Image.fromarray(two_objects()[0]).save(path)
    path.write_bytes(path.read_bytes()[:-60])


def colours(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path)


def sixteen_bits(path: Path) -> None:
    Image.fromarray(np.ones((8, 8), dtype=np.uint16)).save(path)


def huge(path: Path) -> None:
    Image.new("L", (8193, 8192)).save(path, compress_level=1)


def jpeg(path: Path) -> None:
    Image.new("L", (8, 8)).save(path, "JPEG")


def empty(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (truncated, "no whole PNG picture"),
        (colours, "holds RGB pixels: write its ids as an 8-bit palette or grey PNG"),
        (sixteen_bits, "holds I;16 pixels"),
        (huge, "8193 x 8192 pixels, the limit is 67108864"),
        (jpeg, "no whole PNG picture"),
        (empty, "no whole PNG picture"),
    ],
)
def test_what_holds_no_ids_is_refused_by_name(
    tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    write(tmp_path / "00003.png")

    with pytest.raises(ConfigError, match=message) as caught:
        read_ids(tmp_path / "00003.png")
    assert str(tmp_path / "00003.png") in str(caught.value)


def test_frames_of_one_sequence_must_have_one_size(tmp_path: Path) -> None:
    ids = two_objects(3)
    folder = write_sequence(tmp_path / "bear", {"0": ids[0], "1": ids[1, :20], "2": ids[2]})

    with pytest.raises(ConfigError, match=r"1\.png is 32 x 20, its sequence 32 x 24"):
        read_stack(list(frame_files(folder).values()))


def test_empty_folders_are_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="bear holds no PNG files"):
        frame_files(tmp_path / "bear")
    (tmp_path / "global_results-val.csv").touch()
    with pytest.raises(MissingInputError, match="holds no folders: it must hold one per sequence"):
        sequence_names(tmp_path)


def test_only_a_whole_sequence_of_0_and_255_is_binary() -> None:
    ids = two_objects()
    binary = np.where(ids == 1, 255, 0).astype(np.uint8)

    assert with_binary_as_object(binary)[1]
    assert with_binary_as_object(binary)[0].max() == 1
    assert np.array_equal(with_binary_as_object(ids)[0], ids)
    assert not with_binary_as_object(ids)[1]
    assert not with_binary_as_object(np.zeros_like(ids))[1]
