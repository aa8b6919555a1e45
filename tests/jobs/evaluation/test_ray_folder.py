"""The folders of Ray nodes: private, short, and never left for good."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sigma_pipeline.jobs.ray_folder import RayFolder

HOLD = "from sigma_pipeline.jobs.ray_folder import RayFolder; RayFolder(); print(); input()"


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where folders are made, though its own name is long."""
    monkeypatch.setattr("sigma_pipeline.jobs.ray_folder._LONGEST_PARENT", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_for_its_user_alone_and_goes_away(parent: Path) -> None:
    folder = RayFolder()
    folder.path.mkdir(mode=0o777)

    assert folder.path.parent.stat().st_mode & 0o777 == 0o700

    folder.remove()
    assert list(parent.iterdir()) == []


def test_a_long_name_for_temporary_files_is_avoided(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sigma_pipeline.jobs.ray_folder._LONGEST_PARENT", 20)
    folder = RayFolder()
    folder.remove()

    assert folder.path.is_relative_to("/tmp")
    session = folder.path / "session_2026-11-23_05-33-06_246691_1531400/sockets/plasma_store"
    assert len(str(session)) <= 107


def test_what_a_killed_process_left_is_taken_away_and_what_is_in_use_is_not(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"import tempfile; tempfile.tempdir = {str(parent)!r}; " + HOLD.replace(
        "RayFolder()",
        "import sigma_pipeline.jobs.ray_folder as f; f._LONGEST_PARENT = 1000; kept = RayFolder()",
    )
    other = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    other.stdout.readline()
    (held,) = parent.iterdir()

    first = RayFolder()
    assert held.exists()

    other.kill()
    other.communicate()
    second = RayFolder()
    assert not held.exists()
    assert len(list(parent.iterdir())) == 2  # the first is still in use
    first.remove()
    second.remove()
