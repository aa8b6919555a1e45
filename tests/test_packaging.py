"""The wheel: one top-level name, everything in it, and a command that starts."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("pipeline", "model", "data_prep", "jobs", "infra")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a copy of the checkout: building leaves files behind."""
    copy, folder = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in (*FOLDERS, "src"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(copy))
    subprocess.run([sys.executable, *build], check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_has_a_single_top_level_name(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"sigma_pipeline"}


@pytest.mark.slow
def test_the_wheel_has_every_module_recipe_and_marker(wheel: Path) -> None:
    expected = {
        f"sigma_pipeline/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for pattern in ("*.py", "recipes/*.yaml")
        for path in (ROOT / folder).rglob(pattern)
    }

    packed = set(zipfile.ZipFile(wheel).namelist())

    assert expected | {"sigma_pipeline/py.typed", "sigma_pipeline/__init__.py"} <= packed
    assert any(name.endswith("licenses/LICENSE") for name in packed)


@pytest.mark.slow
def test_the_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = "import sys; sys.path.insert(0, sys.argv.pop(1));" + (
        "from sigma_pipeline.pipeline.cli import main; main()"
    )

    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(tmp_path), "recipes"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout


def test_constraints_pin_every_direct_dependency_to_a_plain_version() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))

    assert pins["torch"] == "2.13.0"
    assert all(version.replace(".", "").isalnum() for version in pins.values())
