"""Evaluation as jobs of SLURM, and what one of them does on its node."""

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage, open_storage, write_json
from sigma_pipeline.infra.tracking import noted_status
from sigma_pipeline.jobs import evaluate, launch_evaluate
from sigma_pipeline.jobs.attempts import Verdict, mark_cancelled, write_verdict
from sigma_pipeline.jobs.commits import manifest_key
from sigma_pipeline.jobs.config import EvaluateConfig
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.launch_evaluate import EvaluateTask, submit_evaluate
from sigma_pipeline.jobs.submission import read_submissions
from tests.fake_slurm import FakeSlurm, options
from tests.jobs.snapshots import make_snapshot

Follow = Callable[[], bool] | None


@pytest.fixture
def task(tmp_path: Path) -> EvaluateTask:
    request = EvaluateRequest(
        run_name="tiny",
        root_uri=str(tmp_path / "store"),
        scratch_dir=str(tmp_path / "scratch"),
        work_dir=str(tmp_path / "work"),
        seed=0,
        evaluate=EvaluateConfig(),
        datasets={},
    )
    return EvaluateTask(request=request, track=None)


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "store"))


@pytest.fixture
def follows(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Follow]]:
    """What each evaluation was told to follow; none is done."""
    seen: list[Follow] = []

    def run(*_: Any, follow: Follow) -> int:
        seen.append(follow)
        return 3

    monkeypatch.setattr(evaluate, "run_evaluate", run)
    return seen


def test_a_job_takes_one_node_for_one_step_and_is_written_down(
    tmp_path: Path, sbatch: FakeSlurm, task: EvaluateTask
) -> None:
    resources = {"cpus": 6, "gpus": 2, "memory_gib": 32, "timeout_min": 30}
    snapshot = make_snapshot(tmp_path, partition="low", evaluate=resources)

    job = submit_evaluate(task, snapshot, step=300, dependency="singleton")

    given = options(sbatch.scripts[0])
    assert (given["nodes"], given["ntasks-per-node"], given["cpus-per-task"]) == ("1", "1", "6")
    assert (given["gpus-per-node"], given["mem"], given["time"]) == ("2", "32GB", "30")
    assert (given["job-name"], given["dependency"]) == ("tiny-evaluate", "singleton")
    assert (job.stage, job.step, job.job_id) == ("evaluate", 300, "101")
    call = pickle.loads(Path(job.folder, "101_submitted.pkl").read_bytes()).function
    assert call.call.request.steps == (300,)
    assert call.checkpoint().function == call  # queued again at its time limit
    assert read_submissions(open_storage(snapshot.root_uri), "tiny") == [job]
    assert Path(job.folder).stat().st_mode & 0o077 == 0  # the call may hold a password


def test_a_job_of_several_nodes_goes_on_without_one_of_them(
    tmp_path: Path, sbatch: FakeSlurm, task: EvaluateTask
) -> None:
    snapshot = make_snapshot(tmp_path, evaluate={"nodes": 3, "cpus": 2})

    job = submit_evaluate(task, snapshot)

    given = options(sbatch.scripts[0])
    assert (given["nodes"], given["ntasks-per-node"]) == ("3", "1")
    assert "no-kill" in given
    assert "--no-kill" in sbatch.scripts[0].partition("\nsrun")[2]
    assert job.world_size == 3


def test_a_job_of_a_job_inherits_nothing_of_it(
    tmp_path: Path, sbatch: FakeSlurm, task: EvaluateTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_CONF", "/site/slurm.conf")
    monkeypatch.setenv("MASTER_ADDR", "n1")

    submit_evaluate(task, make_snapshot(tmp_path))

    assert sbatch.environment["SLURM_CONF"] == "/site/slurm.conf"
    assert not {"SLURM_NTASKS", "MASTER_ADDR"} & sbatch.environment.keys()


@pytest.mark.parametrize(
    ("is_trained", "steps", "status"),
    [(True, None, "FINISHED"), (False, None, None), (True, (4,), None)],
)
def test_only_the_last_job_of_a_trained_run_finishes_it(
    task: EvaluateTask,
    store: Storage,
    follows: list[Follow],
    is_trained: bool,
    steps: tuple[int, ...] | None,
    status: str | None,
) -> None:
    if is_trained:
        write_json(store, manifest_key("tiny"), {})

    assert replace(task, request=replace(task.request, steps=steps))() == 3

    note = noted_status(store, "tiny")
    assert (note.status if note else None) == status
    assert follows == [None]


def test_a_run_whose_last_job_failed_has_failed(
    task: EvaluateTask, store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise StageError("a cell failed")

    monkeypatch.setattr(evaluate, "run_evaluate", fail)
    write_json(store, manifest_key("tiny"), {})

    with pytest.raises(StageError, match="a cell failed"):
        task()

    note = noted_status(store, "tiny")
    assert note is not None
    assert note.status == "FAILED"


@pytest.mark.parametrize("end", ["manifest", "verdict", "cancelled", "without a word"])
def test_a_job_beside_training_follows_it_to_whatever_end(
    task: EvaluateTask,
    store: Storage,
    follows: list[Follow],
    sbatch: FakeSlurm,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    monkeypatch.setattr(launch_evaluate, "_ASK_INTERVAL_S", 0)
    sbatch.set_state("7", "NODE_FAIL")  # and will be started again
    sbatch.set_state("8", "PENDING")
    replace(task, training_jobs=("7", "8"))()
    (is_training,) = follows
    assert is_training is not None
    sbatch.set_state("8", "COMPLETED")
    assert is_training()

    if end == "manifest":
        write_json(store, manifest_key("tiny"), {})
    elif end == "verdict":
        write_verdict(store, "tiny", Verdict(reason="", attempts=3, step=0, time_ms=0))
    elif end == "cancelled":
        mark_cancelled(store, "tiny", "8", "login")
    else:
        sbatch.set_state("7", "FAILED")

    assert not is_training()


def test_a_job_beside_training_outlives_many_time_limits(
    tmp_path: Path, sbatch: FakeSlurm, task: EvaluateTask
) -> None:
    job = submit_evaluate(replace(task, training_jobs=("7",)), make_snapshot(tmp_path))

    delayed = pickle.loads(Path(job.folder, "101_submitted.pkl").read_bytes())
    assert delayed._timeout_countdown == 1000
