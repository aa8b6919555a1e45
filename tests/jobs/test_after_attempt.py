"""What is done where a batch script ends, with stand-ins for SLURM's commands."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage, open_storage, write_json
from sigma_pipeline.infra.tracking import StatusNote, noted_status
from sigma_pipeline.jobs import after_attempt, carry_on, slurm
from sigma_pipeline.jobs.after_attempt import AfterAttempt, main
from sigma_pipeline.jobs.attempts import mark_cancelled, read_attempts, read_verdict
from sigma_pipeline.jobs.slurm import JobView
from tests.jobs.attempt_records import end, put_attempt

Requeued = list[tuple[float, tuple[str, ...], str]]
After = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    """An empty one."""
    return open_storage(str(tmp_path / "store"))


@pytest.fixture
def after(tmp_path: Path, store: Storage) -> After:
    """The file of a job; keywords change its policy."""

    def write(**changes: Any) -> str:
        path = tmp_path / "after.json"
        settings: dict[str, Any] = {
            "continue_by": "requeue",
            "max_attempts_without_progress": 2,
            "backoff_s": 60,
            "root_uri": store.root_uri,
            "run_name": "run",
            "log_path": "/logs",
            "exclude": "n9",
        }
        AfterAttempt(**{**settings, **changes}).write(path)
        return str(path)

    return write


@pytest.fixture(autouse=True)
def requeued(monkeypatch: pytest.MonkeyPatch) -> Requeued:
    """How the job was queued again: a job in its second life, which SLURM says is running."""
    calls: Requeued = []

    def requeue(
        job_id: str, *, after_s: float, without: tuple[str, ...], always_without: str
    ) -> None:
        assert job_id == "7"
        calls.append((after_s, without, always_without))

    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setattr(slurm, "job_view", lambda job: JobView(job_id=job, state="RUNNING"))
    monkeypatch.setattr(carry_on, "requeue", requeue)
    monkeypatch.setattr(after_attempt.signal, "signal", lambda *_: None)
    return calls


def test_an_attempt_that_said_nothing_gets_an_end_and_a_successor(
    store: Storage, after: After, requeued: Requeued
) -> None:
    put_attempt(store, job_id="7", restart=0, ended=end("stopped"))
    put_attempt(store, job_id="7", restart=1)

    assert main(after(), "137") == 0

    assert requeued == [(60, (), "n9")]
    ends = [attempt.end.state for attempt in read_attempts(store, "run") if attempt.end]
    assert ends == ["stopped", "died"]


def test_the_next_attempt_does_without_bad_nodes(
    store: Storage, after: After, requeued: Requeued
) -> None:
    put_attempt(store, job_id="7", restart=1, ended=end(bad_nodes=("n2",)))

    assert main(after(), "1") == 0

    assert requeued == [(60, ("n2",), "n9")]


def test_attempts_that_die_before_they_register_come_to_an_end_too(
    store: Storage, after: After, requeued: Requeued
) -> None:
    assert main(after(), "127") == 0
    assert main(after(), "127") == 1

    assert len(requeued) == 1
    verdict = read_verdict(store, "run")
    assert verdict is not None
    assert "2 attempts in a row" in verdict.reason
    note = noted_status(store, "run")
    assert note is not None
    assert note.status == "FAILED"


def test_the_last_word_is_brought_to_the_server_and_no_other(
    store: Storage, after: After, requeued: Requeued, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    class FakeTracker:
        """Notes what MLflow would be told."""

        def __init__(self, *place: object) -> None:
            self.place = place

        def sync(self) -> None:
            """See ``Tracker``; the server does not answer."""
            told.append((*self.place[2:], cast(StatusNote, noted_status(store, "run")).status))
            raise StageError("MLflow is down")

    monkeypatch.setattr(after_attempt, "Tracker", FakeTracker)
    file = after(experiment="e", tracking_uri="http://mlflow:5000")

    assert [main(file, "127"), main(file, "127")] == [0, 1]

    assert told == [("e", "http://mlflow:5000", "FAILED")]


def test_a_python_without_mlflow_decides_all_the_same(
    store: Storage, after: After, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'mlflow'")

    monkeypatch.setattr(after_attempt, "Tracker", fail)
    put_attempt(store, job_id="7", restart=1, ended=end("stopped"))
    mark_cancelled(store, "run", "7", "login")

    assert main(after(tracking_uri="http://mlflow:5000"), "0") == 75


def test_a_cancelled_job_is_left_alone(store: Storage, after: After, requeued: Requeued) -> None:
    put_attempt(store, job_id="7", restart=1, ended=end("stopped"))
    mark_cancelled(store, "run", "7", "login")

    assert main(after(), "0") == 75

    assert requeued == []
    note = noted_status(store, "run")
    assert note is not None
    assert note.status == "KILLED"


def test_a_failure_of_another_job_of_the_run_is_not_taken_for_this_ones(
    store: Storage, after: After, requeued: Requeued
) -> None:
    put_attempt(store, job_id="6", restart=1, ended=end())

    assert main(after(max_attempts_without_progress=3), "1") == 0

    assert requeued == [(120, (), "n9")]
    assert len(read_attempts(store, "run")) == 2


def test_a_store_that_cannot_be_read_does_not_end_the_run(
    store: Storage, after: After, requeued: Requeued, caplog: pytest.LogCaptureFixture
) -> None:
    put_attempt(store, job_id="7", restart=1)
    write_json(store, "runs/run/train/ends/z.json", {"state": "failed"})

    assert main(after(), "1") == 0

    assert requeued == [(60, (), "n9")]
    assert len(store.list("runs/run/train/ends")) == 1


def test_nodes_that_slurm_took_are_noted_for_a_rank_that_could_not(
    store: Storage, after: After, requeued: Requeued, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_attempt(store, job_id="7", restart=1)
    taken = JobView(job_id="7", state="COMPLETING", restarts=2)
    monkeypatch.setattr(slurm, "job_view", lambda _: taken)

    assert main(after(), "143") == 0

    (attempt,) = read_attempts(store, "run")
    assert (attempt.is_taken, attempt.is_failure, requeued) == (True, False, [])


def test_a_job_that_a_later_one_has_overtaken_ends(
    store: Storage, after: After, requeued: Requeued, capfd: pytest.CaptureFixture[str]
) -> None:
    put_attempt(store, job_id="7", restart=1, ended=end(reason="overtaken by ..."))
    put_attempt(store, job_id="12")

    assert main(after(), "1") == 1

    assert requeued == []
    assert noted_status(store, "run") is None
    assert "overtaken by job 12" in capfd.readouterr().err


def test_a_job_goes_on_after_an_older_one_has_come_between(
    store: Storage, after: After, requeued: Requeued
) -> None:
    put_attempt(store, job_id="7", restart=1, ended=end(reason="overtaken by ..."))
    put_attempt(store, job_id="6")

    assert main(after(max_attempts_without_progress=3), "1") == 0

    assert len(requeued) == 1


def test_it_starts_without_what_takes_long_to_import(after: After, tmp_path: Path) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\nexit 0\n")
    scontrol.chmod(0o755)
    program = """
import sys
from sigma_pipeline.jobs.after_attempt import main
status = main(*sys.argv[1:])
heavy = {"torch", "pydantic", "numpy", "mlflow", "boto3"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else status)
"""
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-P", "-c", program, after(), "1"]

    subprocess.run(command, check=True, env=environment)
