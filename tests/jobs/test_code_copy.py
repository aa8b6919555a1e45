"""The copy that jobs run from: complete, found again, guarded, and what Python really imports."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs import code_copy
from sigma_pipeline.jobs.code_copy import copy_code, pack_code, package_folder, read_sources


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of this name with a module behind a link, taken for the one that runs."""
    real = tmp_path / "checkout" / "jobs"
    real.mkdir(parents=True)
    (real / "one.py").write_text("VALUE = 1\n")
    (real / "__pycache__").mkdir()
    (real / "__pycache__" / "one.cpython-311.pyc").write_bytes(b"old")
    package = tmp_path / "checkout" / "src" / code_copy.PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / ".one.py.swp").write_text("secret")
    (package / "jobs").symlink_to(real)
    monkeypatch.setattr(code_copy, "package_folder", lambda: package)
    return package


def imported_value(folder: Path) -> tuple[str, str]:
    """What a new process sees of the module: its value and its file."""
    code = "import sigma_pipeline.jobs.one as one; print(one.VALUE); print(one.__file__)"
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    value, file = done.stdout.splitlines()
    return value, file


def test_a_process_imports_from_the_copy_whatever_becomes_of_the_checkout(
    package: Path, tmp_path: Path
) -> None:
    folder = copy_code(tmp_path / "work")
    (package / "jobs" / "one.py").write_text("VALUE = 2\n")

    value, file = imported_value(folder)

    assert value == "1"
    assert file == str(folder / "sigma_pipeline" / "jobs" / "one.py")
    assert copy_code(tmp_path / "work") != folder


def test_what_python_and_editors_leave_behind_is_not_copied(package: Path, tmp_path: Path) -> None:
    folder = copy_code(tmp_path / "work")

    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert sorted(map(str, files)) == ["sigma_pipeline/__init__.py", "sigma_pipeline/jobs/one.py"]
    assert not (folder / "sigma_pipeline" / "jobs").is_symlink()


@pytest.mark.usefixtures("package")
def test_equal_code_has_one_copy_that_jobs_may_fill_with_bytecode(tmp_path: Path) -> None:
    folder = copy_code(tmp_path / "work")
    (folder / "sigma_pipeline" / "__pycache__").mkdir()
    (folder / "sigma_pipeline" / "__pycache__" / "a.pyc").write_bytes(b"made by a job")

    assert copy_code(tmp_path / "work") == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.usefixtures("package")
def test_a_copy_that_somebody_has_changed_is_refused(tmp_path: Path) -> None:
    folder = copy_code(tmp_path / "work")
    (folder / "sigma_pipeline" / "jobs" / "one.py").write_text("VALUE = 3\n")

    with pytest.raises(StageError, match=rf"{folder} is not the copy .* remove that folder"):
        copy_code(tmp_path / "work")


def test_the_archive_holds_the_whole_package_with_its_recipes() -> None:
    packed = pack_code()

    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        names = set(tar.getnames())
    assert names == {f"sigma_pipeline/{name}" for name in read_sources(package_folder())}
    assert {"sigma_pipeline/jobs/train.py", "sigma_pipeline/pipeline/recipes/demo.yaml"} <= names
    assert pack_code() == packed
