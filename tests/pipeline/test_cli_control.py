"""The commands about a run that lives in SLURM, as a user calls them."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import write_json
from sigma_pipeline.infra.tracking import Tracker, noted_status
from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.best_commit import BestCommit, best_key
from sigma_pipeline.jobs.cells import Trial
from sigma_pipeline.jobs.commits import commit_prefix
from sigma_pipeline.jobs.planned_trials import PlannedTrial, record_grid
from sigma_pipeline.pipeline.cli import cli
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.services import Services
from tests.pipeline.slurm_fake import FakeSlurm


@pytest.fixture
def planned() -> PlannedTrial:
    """A trial of k-NN on the demo dataset."""
    return PlannedTrial(
        trial=Trial(
            benchmark="knn",
            version=1,
            settings={},
            train=None,
            test=DatasetRef("demo", "val", "v1"),
            view=ViewConfig(),
            clips_version=1,
            features_version=1,
            pooling="mean",
            precision="fp32",
        ),
        label="knn",
        cost="cheap",
        every=None,
        best=None,
        seeds=(0,),
        limits=TaskLimits(),
        skipped=None,
    )


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def test_the_status_is_shown_though_mlflow_is_down(
    recipe_path: str, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.submit("7", "RUNNING")

    def fail(*_: object) -> int:
        raise StageError("MLflow at http://127.0.0.1:9: refused")

    monkeypatch.setattr("sigma_pipeline.pipeline.tracked_run.update_tracking", fail)

    result = call("status", "--config", recipe_path)

    assert result.exit_code == 0
    assert "SLURM job 7 runs on n[1-2]" in result.stdout
    assert result.stderr.startswith("warning: MLflow at http://127.0.0.1:9: refused")


def test_the_status_tells_the_best_commit_and_the_time_that_is_left(
    recipe_path: str, services: Services, slurm: FakeSlurm, planned: PlannedTrial
) -> None:
    storage = services.storage
    record_grid(storage, services.run_name, [planned])
    best = BestCommit("knn/demo/top1", 40, 0.53125, "0" * 64, "a1")
    write_json(storage, best_key(services.run_name), asdict(best))
    storage.write(f"{commit_prefix(services.run_name, 40, 'a1')}/commit.json", b"")

    result = call("status", "--config", recipe_path)

    assert "knn on demo: 0 done, 0 failed, 1 missing" in result.stdout
    assert "time left is not known, knn on demo not counted: none is done yet" in result.stdout
    assert "best commit by knn/demo/top1: step 40, 0.5312" in result.stdout


def test_logs_show_the_last_lines_and_say_of_which_file(
    recipe_path: str, slurm: FakeSlurm, tmp_path: Path
) -> None:
    slurm.submit("7", "COMPLETED")
    (tmp_path / "jobs" / "7_1_log.err").write_text("one\ntwo\n")

    result = call("logs", "--config", recipe_path, "--rank", "1", "--lines", "1")
    followed = call("logs", "--config", recipe_path, "--rank", "1", "--follow")

    assert result.stdout == "two\n"
    assert result.stderr == f"-- job 7: {tmp_path}/jobs/7_1_log.err\n"
    assert followed.stdout == "one\ntwo\n"


@pytest.mark.usefixtures("slurm")
def test_logs_of_a_run_that_never_was_name_the_command(recipe_path: str) -> None:
    result = call("logs", "--config", recipe_path)

    assert result.exit_code == 3
    assert "sigma-pipeline run --stage train" in result.stderr


def test_a_cancelled_run_is_killed_in_mlflow_and_says_how_to_go_on(
    recipe_path: str,
    config: PipelineConfig,
    services: Services,
    slurm: FakeSlurm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = []

    def sync(_: Tracker) -> int:
        told.append(noted_status(services.storage, config.run_name))
        return 0

    monkeypatch.setattr("sigma_pipeline.pipeline.cancelling._POLL_INTERVAL_S", 0.0)
    monkeypatch.setattr(Tracker, "sync", sync)
    slurm.submit("7", "PENDING")  # so that no job of it will ever say so

    result = call("cancel", "--config", recipe_path, "--now")
    again = call("cancel", "--config", recipe_path)

    assert result.exit_code == again.exit_code == 0
    assert "begins again with sigma-pipeline run" in result.stdout
    assert "there is nothing to cancel" in again.stdout
    assert [note.status for note in told if note] == ["KILLED"]


def test_cancelling_without_slurm_ends_with_1(recipe_path: str, slurm: FakeSlurm) -> None:
    slurm.is_here = False

    result = call("cancel", "--config", recipe_path)

    assert result.exit_code == 1
    assert "has not SLURM's commands" in result.stderr


def test_leaving_a_cancel_early_says_that_the_jobs_still_save(
    recipe_path: str, slurm: FakeSlurm
) -> None:
    slurm.submit("7", "RUNNING")

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    slurm.on_signal = interrupt

    result = call("cancel", "--config", recipe_path)

    assert result.exit_code == 75
    assert "jobs that were asked to save and end still do so" in result.stderr


def test_looking_at_a_run_waits_for_no_heavy_library() -> None:
    modules = ("cancelling", "cli_control", "run_logs", "status", "tracked_run")
    imports = "; ".join(f"import sigma_pipeline.pipeline.{name}" for name in modules)
    imports += "; import sigma_pipeline.jobs.scores"
    heavy = "{'torch', 'mlflow', 'submitit', 'ray', 'deepspeed', 'scipy'}"
    script = f"import sys; {imports}; sys.exit(sorted({heavy} & sys.modules.keys()) or 0)"

    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
