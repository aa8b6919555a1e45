"""What tests of several folders share."""

import os
from pathlib import Path

import pytest

from tests.fake_slurm import FakeSlurm

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """Folder of real test videos; tests that need it are skipped where it is not."""
    folder = Path(os.environ.get("SIGMA_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real videos in {folder}; name their folder in SIGMA_TEST_DATA")
    return folder


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Takes jobs that are never started."""
    sbatch = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{sbatch.bin}:{os.environ['PATH']}")
    return sbatch
