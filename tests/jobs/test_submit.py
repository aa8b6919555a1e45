"""What jobs inherit from their launcher, and what a launcher needs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs import submit
from sigma_pipeline.jobs.code_copy import copy_code, package_folder
from sigma_pipeline.jobs.config import LaunchConfig
from sigma_pipeline.jobs.submit_array import submitted_array


def test_children_inherit_the_settings_and_the_launcher_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("MASTER_ADDR", "elsewhere")

    with submit.child_settings(3, is_local=True):
        inside = dict(os.environ)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, set())

    assert (inside["OMP_NUM_THREADS"], inside["PYTHONSAFEPATH"]) == ("3", "1")
    assert inside["GLOO_SOCKET_IFNAME"] == "lo"
    assert "MASTER_ADDR" not in inside
    assert {signal.SIGINT, signal.SIGHUP} <= blocked
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MASTER_ADDR"]) == ("5", "elsewhere")
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_children_lose_an_outer_job_but_keep_where_the_site_keeps_its_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CONF", "/site/slurm.conf")

    with submit.child_settings(1, is_local=False):
        inherited = dict(os.environ)

    assert "SLURM_JOB_ID" not in inherited
    assert inherited["SLURM_CONF"] == "/site/slurm.conf"


def test_without_slurm_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    launch = LaunchConfig(cluster="slurm")

    with pytest.raises(StageError, match=r"srun is not on the PATH.*launch\.cluster=local"):
        submit.submit(os.getpid, launch, tmp_path, {}, threads=1)
    with (
        pytest.raises(StageError, match=r"srun is not on the PATH"),
        submitted_array([os.getpid], launch, tmp_path, {}),
    ):
        pytest.fail("not reached")


def test_a_job_on_this_machine_runs_from_the_copy_of_the_code(tmp_path: Path) -> None:
    code = copy_code(tmp_path / "work")
    parameters = {"timeout_min": 5, "tasks_per_node": 1}

    job = submit.submit(
        package_folder, LaunchConfig(), tmp_path / "job", parameters, threads=1, code=code
    )

    assert job.result() == code / "sigma_pipeline"
    assert package_folder() != code / "sigma_pipeline"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as in a terminal: a shell that runs the tests in its background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_signals_wait_until_a_job_is_written_down() -> None:
    written: list[str] = []

    def submit_and_write() -> None:
        with submit.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            written.append("job")

    with pytest.raises(KeyboardInterrupt):
        submit_and_write()

    assert written == ["job"]
