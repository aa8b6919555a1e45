"""What commits submit while training goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs import commit_evaluation
from sigma_pipeline.jobs.commit_evaluation import CommitEvaluation
from sigma_pipeline.jobs.commits import commit_prefix
from sigma_pipeline.jobs.config import CellConfig, EvaluateConfig
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.launch_evaluate import EvaluateTask
from sigma_pipeline.jobs.submission import read_submissions
from tests.fake_slurm import FakeSlurm, options
from tests.jobs.snapshots import make_snapshot

Evaluated = Callable[..., CommitEvaluation]


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluated:
    """By cells that take each n-th commit, or wait for the end; steps 0, 10, 20 are committed."""
    store = open_storage(str(tmp_path / "store"))
    for step in (0, 10, 20):
        store.write(f"{commit_prefix('tiny', step, 'a')}/commit.json", b"{}")

    def make(*every: int, num_waiting: int = 0) -> CommitEvaluation:
        num_cells = len(every) + num_waiting
        cells = (CellConfig(benchmark="knn", dataset="set"),) * num_cells
        request = EvaluateRequest(
            run_name="tiny",
            root_uri=store.root_uri,
            scratch_dir=str(tmp_path),
            work_dir=str(tmp_path / "work"),
            seed=0,
            evaluate=EvaluateConfig(cells=cells),
            datasets={},
        )
        task = EvaluateTask(request=request, track=None)
        return CommitEvaluation(task, make_snapshot(tmp_path), every)

    return make


def never() -> bool:
    """Nobody wants this process to end."""
    return False


def steps(tmp_path: Path) -> list[int | None]:
    """Submitted so far."""
    return [one.step for one in read_submissions(open_storage(str(tmp_path / "store")), "tiny")]


def test_commits_that_a_cell_takes_submit_a_job_and_the_end_one_after_them(
    tmp_path: Path, sbatch: FakeSlurm, evaluated: Evaluated
) -> None:
    evaluation = evaluated(2, 4)

    for step in (10, 20):
        evaluation.on_commit(step)
    assert evaluation.on_end(never)
    assert evaluation.on_end(never)  # by another job of a chain

    assert steps(tmp_path) == [20, None]
    assert "dependency" not in options(sbatch.scripts[0])
    assert options(sbatch.scripts[1])["dependency"] == "singleton"


@pytest.mark.usefixtures("sbatch")
def test_a_commit_that_is_deleted_changes_nothing_for_those_after_it(
    tmp_path: Path, evaluated: Evaluated
) -> None:
    evaluation = evaluated(2)
    evaluation.on_commit(0)
    first = f"{commit_prefix('tiny', 0, 'a')}/commit.json"
    open_storage(str(tmp_path / "store")).delete(first)

    for step in (10, 20):
        evaluation.on_commit(step)

    assert steps(tmp_path) == [0, 20]


@pytest.mark.usefixtures("sbatch")
def test_cells_that_wait_for_the_end_are_left_to_the_last_job(
    tmp_path: Path, evaluated: Evaluated
) -> None:
    evaluation = evaluated(num_waiting=1)

    for step in (0, 10, 20):
        evaluation.on_commit(step)
    assert evaluation.on_end(never)

    assert steps(tmp_path) == [None]


@pytest.mark.usefixtures("sbatch")
def test_without_cells_nothing_is_submitted(tmp_path: Path, evaluated: Evaluated) -> None:
    evaluation = evaluated()

    evaluation.on_commit(0)

    assert not evaluation.on_end(never)
    assert steps(tmp_path) == []


def test_a_job_that_is_refused_is_no_failure_of_training(
    tmp_path: Path,
    sbatch: FakeSlurm,
    evaluated: Evaluated,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[Any],
) -> None:
    sbatch.refuse_after(0)

    evaluated(1).on_commit(10)

    assert steps(tmp_path) == []
    assert "No job evaluates step 10" in caplog.text
    assert "SLURM did not take the job" in capfd.readouterr().err


def test_the_last_evaluation_is_submitted_again_until_slurm_takes_it(
    tmp_path: Path, sbatch: FakeSlurm, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    def sleep(duration_s: float, _: object) -> bool:
        slept.append(duration_s)
        if len(slept) == 2:
            sbatch.refuse_after(1000)
        return True

    monkeypatch.setattr(commit_evaluation, "_slept", sleep)
    sbatch.refuse_after(0)

    assert evaluated(1).on_end(never)

    assert slept == [10, 20]
    assert steps(tmp_path) == [None]


def test_a_process_that_is_to_end_does_not_wait_and_says_what_to_do(
    tmp_path: Path, sbatch: FakeSlurm, evaluated: Evaluated, caplog: pytest.LogCaptureFixture
) -> None:
    sbatch.refuse_after(0)

    assert not evaluated(1).on_end(lambda: True)

    assert steps(tmp_path) == []
    assert "sigma-pipeline run --stage evaluate" in caplog.text
