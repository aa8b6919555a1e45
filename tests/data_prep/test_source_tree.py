"""Finding files below a folder."""

import os
import socket
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.source_tree import find_files
from sigma_pipeline.infra.errors import ConfigError, MissingInputError


def found(root: Path) -> dict[str, int]:
    return {file.name: file.size for file in find_files(root)}


def flaws(root: Path) -> dict[str, str | None]:
    return {file.name: file.flaw for file in find_files(root) if file.flaw}


def test_files_are_found_at_any_depth_with_their_size(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x.mp4").write_bytes(b"123")
    (tmp_path / "y.mp4").write_bytes(b"")

    assert found(tmp_path) == {"a/b/x.mp4": 3, "y.mp4": 0}


def test_odd_names_are_found(tmp_path: Path) -> None:
    names = ["-x.mp4", "a b.mp4", "new\nline.mp4", "\u4e2d.mp4", os.fsdecode(b"\xff.mp4")]
    for name in names:
        (tmp_path / name).touch()

    assert found(tmp_path).keys() == set(names)


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    source = tmp_path / "source"
    (pool / "walk").mkdir(parents=True)
    source.mkdir()
    (pool / "walk/x.mp4").write_bytes(b"1")
    (source / "walk").symlink_to(pool / "walk")
    (source / "y.mp4").symlink_to(pool / "walk/x.mp4")

    assert found(source) == {"walk/x.mp4": 1, "y.mp4": 1}


def test_a_link_back_up_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/x.mp4").touch()
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "self").symlink_to(tmp_path)

    assert found(tmp_path) == {"a/x.mp4": 0}


def test_a_link_to_nowhere_or_to_itself_is_a_flaw(tmp_path: Path) -> None:
    (tmp_path / "lost.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")

    assert flaws(tmp_path).keys() == {"lost.mp4", "loop.mp4"}


def test_what_is_no_file_is_a_flaw_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.mp4"))

    assert set(flaws(tmp_path).values()) == {"not a regular file"}
    assert len(flaws(tmp_path)) == 3


def test_a_source_that_is_not_there_is_a_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"nowhere.*shard\.source"):
        found(tmp_path / "nowhere")


def test_a_source_that_is_a_file_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").touch()

    with pytest.raises(ConfigError, match="not a folder"):
        found(tmp_path / "x.mp4")
