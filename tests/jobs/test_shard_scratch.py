"""Folders for unfinished files."""

from pathlib import Path

from sigma_pipeline.jobs.shard_scratch import own_folder


def test_the_folder_is_gone_with_the_block(tmp_path: Path) -> None:
    with own_folder(tmp_path) as folder:
        (folder / "half.tar").touch()

    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead/lock").touch()
    (tmp_path / "dead/half.tar").touch()

    with own_folder(tmp_path):
        assert not (tmp_path / "dead").exists()


def test_the_folder_of_a_living_process_stays(tmp_path: Path) -> None:
    with own_folder(tmp_path) as first, own_folder(tmp_path) as second:
        assert first != second
        assert first.exists()


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()

    with own_folder(tmp_path):
        assert (tmp_path / "other").exists()
