"""Batch scripts like those of training on a real SLURM: how attempts end, and what comes after."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.infra.tracking import noted_status
from sigma_pipeline.jobs import slurm
from sigma_pipeline.jobs.after_attempt import AfterAttempt
from sigma_pipeline.jobs.attempts import Attempt, mark_cancelled, read_attempts, read_verdict
from sigma_pipeline.jobs.config import LaunchConfig
from sigma_pipeline.jobs.submit_train import teardown

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slow

RANK = Path(__file__).with_name("attempt_rank.py")
SCRIPT = """\
#!/bin/bash
#SBATCH --output={folder}/log --open-mode=append --requeue --time=5
export PYTHONSAFEPATH=1
trap : TERM USR2
srun --kill-on-bad-exit=1 {python} {rank} {folder}/store {plan}
{teardown}
"""


class Trial:
    """One job and its run."""

    def __init__(self, folder: Path, plan: str, continue_by: str, excluded: str) -> None:
        self.storage: Storage = open_storage(f"{folder}/store")
        after = AfterAttempt(
            root_uri=self.storage.root_uri,
            run_name="run",
            continue_by=continue_by,  # type: ignore[arg-type]
            max_attempts_without_progress=2,
            backoff_s=1,
            log_path="/logs",
            exclude=excluded,
        )
        after.write(folder / "after.json")
        launch = LaunchConfig.model_validate({"train": {"continue_by": continue_by}})
        script = SCRIPT.format(
            folder=folder,
            python=sys.executable,
            rank=RANK,
            plan=plan,
            teardown="\n".join(teardown(launch, folder / "after.json")),
        )
        (folder / "script").write_text(script)
        command = ["sbatch", "--parsable", f"--exclude={excluded}", folder / "script"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        self.job_id = done.stdout.strip()

    @property
    def attempts(self) -> list[Attempt]:
        """All, the oldest first."""
        return read_attempts(self.storage, "run")

    @property
    def state(self) -> str:
        """SLURM's word for how the job stands."""
        view = slurm.job_view(self.job_id)
        return view.state if view else ""

    def wait_for_commit(self) -> None:
        """Until its rank has its handlers in place, too."""
        wait_until(lambda: "step-00000001" in "".join(self.storage.list("runs/run/train")))

    def ended(self) -> tuple[str, list[str]]:
        """State and exit status of the job, and the states of its attempts, when it is over."""
        wait_until(lambda: self.state in ("COMPLETED", "FAILED", "CANCELLED"))
        view = slurm.job_view(self.job_id)
        assert view is not None
        ends = [attempt.end.state if attempt.end else "" for attempt in self.attempts]
        return f"{view.state} {view.exit_code}", ends


Try = Callable[..., Trial]


def wait_until(is_true: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline_s, "waited too long"
        time.sleep(0.1)


@pytest.fixture
def attempt(cluster: "Cluster", tmp_path: Path) -> Iterator[Try]:
    """Submits jobs, and ends those that a failed test left behind."""
    trials: list[Trial] = []

    def submit(plan: str, continue_by: str = "requeue") -> Trial:
        folder = tmp_path / str(len(trials))
        folder.mkdir()
        trials.append(Trial(folder, plan, continue_by, excluded))
        return trials[-1]

    with cluster.held(2) as nodes:
        excluded = ",".join(cluster.others(nodes))
        yield submit
        for trial in trials:
            slurm.cancel(trial.job_id)


def test_jobs_that_fail_go_on_until_there_is_no_hope(attempt: Try) -> None:
    failing = attempt("fails")
    killed = attempt("is-killed,finishes")
    bad = attempt("has-bad-node,finishes")
    chained = attempt("fails", continue_by="chain")

    assert failing.ended() == ("FAILED 1:0", ["failed", "failed"])
    verdict = read_verdict(failing.storage, "run")
    assert verdict is not None
    assert "2 attempts in a row without a commit after step 0, the newest first: it broke" in (
        verdict.reason
    )
    assert noted_status(failing.storage, "run").status == "FAILED"  # type: ignore[union-attr]

    assert killed.ended() == ("COMPLETED 0:0", ["died", "finished"])
    assert killed.attempts[0].end.reason == (  # type: ignore[union-attr]
        "ended without a word, killed by SIGKILL, or out of memory"
    )

    assert bad.ended() == ("COMPLETED 0:0", ["failed", "finished"])
    first, second = (one.record.host for one in bad.attempts)  # type: ignore[union-attr]
    assert first != second

    assert chained.ended() == ("FAILED 1:0", ["failed"])


def test_jobs_that_are_stopped_go_on_unless_they_were_cancelled(attempt: Try) -> None:
    stopped = attempt("waits,finishes")
    requeued = attempt("waits,finishes")
    too_slow = attempt("waits-too-long,finishes")
    ended = attempt("waits")
    cancelled = attempt("waits")
    trials = (stopped, requeued, too_slow, ended, cancelled)
    for trial in trials:
        trial.wait_for_commit()
    slurm.signal_job(stopped.job_id, "USR2")
    for trial in (requeued, too_slow):
        subprocess.run(["scontrol", "requeue", trial.job_id], check=True)
    slurm.cancel(ended.job_id)
    mark_cancelled(cancelled.storage, "run", cancelled.job_id, "login")
    slurm.signal_job(cancelled.job_id, "TERM")

    assert stopped.ended() == ("COMPLETED 0:0", ["stopped", "finished"])
    assert requeued.ended() == ("COMPLETED 0:0", ["stopped", "finished"])
    assert too_slow.ended() == ("COMPLETED 0:0", ["stopped", "finished"])
    assert too_slow.attempts[0].end.reason == (  # type: ignore[union-attr]
        "SLURM took its nodes away"
    )
    assert ended.ended()[1] == ["stopped"]
    assert cancelled.ended() == ("FAILED 75:0", ["stopped"])
    assert [noted_status(trial.storage, "run") for trial in trials[:3]] == [None] * 3
    for trial in trials[3:]:
        assert noted_status(trial.storage, "run").status == "KILLED"  # type: ignore[union-attr]
