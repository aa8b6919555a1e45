"""Training as SLURM gets it: one job that is queued again, or a chain; once at a time."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs import submit_train as jobs_submit_train
from sigma_pipeline.jobs.attempts import Verdict, read_verdict, write_verdict
from sigma_pipeline.jobs.config import LaunchConfig
from sigma_pipeline.jobs.submission import read_submissions, record_submission
from sigma_pipeline.jobs.submit_train import (
    forget_verdict,
    require_no_training,
    submit_train,
    teardown,
)
from sigma_pipeline.jobs.train_request import TrainRequest
from tests.fake_slurm import FakeSlurm, options
from tests.jobs.snapshots import make_snapshot

MakeRequest = Callable[..., TrainRequest]
RESOURCES = {"nodes": 2, "cpu_processes": 3, "gpus_per_node": 3, "cpus_per_process": 2}


def test_one_job_is_queued_again_by_what_follows_its_processes(
    tmp_path: Path, sbatch: FakeSlurm, make_request: MakeRequest
) -> None:
    snapshot = make_snapshot(tmp_path, train=RESOURCES | {"backoff_s": 5})

    (job,) = submit_train(make_request(), snapshot, dependency="afterany:9")

    (script,) = sbatch.scripts
    given = options(script)
    assert (given["nodes"], given["ntasks-per-node"], given["cpus-per-task"]) == ("2", "3", "2")
    assert (given["job-name"], given["dependency"]) == ("tiny-train", "afterany:9")
    assert "requeue" in given
    assert given["signal"] == "USR2@10"
    after = Path(job.folder, "after.json")
    assert (
        f"status=$?\ntrap '' TERM USR2\n{sys.executable} -m "
        f'sigma_pipeline.jobs.after_attempt {after} "$status"\n'
    ) in script
    policy = json.loads(after.read_text())
    assert (policy["continue_by"], policy["backoff_s"]) == ("requeue", 5)
    assert f"export PYTHONPATH='{snapshot.code}'" in script
    assert (job.stage, job.job_id, job.world_size) == ("train", "101", 6)
    assert read_submissions(open_storage(snapshot.root_uri), "tiny") == [job]


def test_the_job_is_told_where_it_runs_and_that_a_person_has_begun_anew(
    tmp_path: Path, sbatch: FakeSlurm, make_request: MakeRequest
) -> None:
    snapshot = make_snapshot(tmp_path, train=RESOURCES | {"stall_timeout_s": 77})

    (job,) = submit_train(make_request(), snapshot)

    task = pickle.loads(Path(job.folder, "101_submitted.pkl").read_bytes()).function
    assert (task.request.cpus_per_process, task.request.stall_timeout_s) == (2, 77)
    assert task.request.failures_since < job.submission
    assert task.request.launcher is None
    assert not hasattr(task, "checkpoint")


def test_a_chain_is_submitted_at_once_each_after_the_one_before(
    tmp_path: Path, sbatch: FakeSlurm, make_request: MakeRequest
) -> None:
    train = RESOURCES | {"continue_by": "chain", "chain_jobs": 3}

    jobs = list(
        submit_train(make_request(), make_snapshot(tmp_path, train=train), dependency="afterany:9")
    )

    given = [options(script) for script in sbatch.scripts]
    assert [job.job_id for job in jobs] == ["101", "102", "103"]
    assert {one["dependency"] for one in given} == {"afterany:9,singleton"}
    assert {one["job-name"] for one in given} == {"tiny-train"}
    assert all("no-requeue" in one for one in given)


def run_teardown(folder: Path, scontrol: str, launch: LaunchConfig, decided: int) -> int:
    """With ``decided`` for the status of what decides; the changes go to ``calls``."""
    folder.mkdir()
    programs = {"scontrol": scontrol, "python": f"exit {decided}"}
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    (folder / "script").write_text("\n".join(teardown(launch, folder / "after.json")))
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    return subprocess.run(
        ["bash", "script"], cwd=folder, env=environment, check=False, stderr=subprocess.DEVNULL
    ).returncode


@pytest.mark.parametrize(("decided", "status"), [(0, 0), (75, 75), (66, 1)])
def test_what_is_decided_is_the_status_of_the_job(
    tmp_path: Path, decided: int, status: int
) -> None:
    launch = LaunchConfig(cluster="slurm", host_python="python", python="in-container")

    assert run_teardown(tmp_path / "job", "touch asked", launch, decided) == status
    assert not (tmp_path / "job/asked").exists()


@pytest.mark.parametrize(
    ("state", "continue_by", "expected"),
    [
        ("RUNNING", "requeue", ["requeue 7", "update JobId=7 StartTime=now+300"]),
        ("COMPLETING", "requeue", []),
        ("RUNNING", "chain", []),
    ],
)
def test_the_shell_queues_the_job_again_where_nothing_can_decide(
    tmp_path: Path, state: str, continue_by: str, expected: list[str]
) -> None:
    launch = LaunchConfig.model_validate(
        {"cluster": "slurm", "host_python": "python", "train": {"continue_by": continue_by}}
    )
    scontrol = f"""[ "$1" = show ] && {{ echo "JobId=7 JobState={state} Reason=None"; exit; }}
echo "$*" >> calls"""

    assert run_teardown(tmp_path / "job", scontrol, launch, decided=1) == 1

    calls = tmp_path / "job/calls"
    assert (calls.read_text().splitlines() if calls.exists() else []) == expected


def test_a_job_that_cannot_be_written_down_is_taken_back(
    tmp_path: Path,
    sbatch: FakeSlurm,
    make_request: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StageError("the store is full")

    monkeypatch.setattr(jobs_submit_train, "record_submission", fail)

    with pytest.raises(StageError, match="the store is full"):
        list(submit_train(make_request(), make_snapshot(tmp_path, train=RESOURCES)))

    assert sbatch.states == {"101": "CANCELLED"}


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING"])
def test_a_run_that_is_trained_already_is_refused(
    tmp_path: Path, sbatch: FakeSlurm, state: str
) -> None:
    snapshot = make_snapshot(tmp_path)
    record_submission(snapshot, "train", "7", tmp_path, world_size=1)
    storage = open_storage(snapshot.root_uri)
    require_no_training(storage, "tiny")  # SLURM has forgotten it
    sbatch.set_state("7", state)

    with pytest.raises(StageError, match=rf"job 7 already, which is {state}; .*cancel"):
        require_no_training(storage, "tiny")
    sbatch.set_state("7", state, name="others-train")  # of another cluster, or years later
    require_no_training(storage, "tiny")
    sbatch.set_state("7", state, name="tiny-train")
    with pytest.raises(StageError, match="job 7 already"):
        require_no_training(storage, "tiny")
    sbatch.set_state("7", "FAILED")
    require_no_training(storage, "tiny")


def test_a_verdict_is_taken_back_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    storage = open_storage(str(tmp_path))
    verdict = Verdict(reason="3 attempts failed", attempts=3, step=4, time_ms=1)
    write_verdict(storage, "tiny", verdict)

    forget_verdict(storage, "tiny")
    forget_verdict(storage, "tiny")

    assert read_verdict(storage, "tiny") is None
    assert [record.getMessage() for record in caplog.records] == [
        "Run tiny was given up before and is tried again: 3 attempts failed"
    ]
