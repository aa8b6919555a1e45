"""Ray: what it is asked, and how it bears failures. The slow tests start it."""

import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import evaluate
from sigma_pipeline.jobs.backlog import Outcome, Task
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.evaluate import RayWorkers, run_evaluate
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation import Evaluation
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scores import score_table

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]
RunScript = Callable[[str], Outcome]

COUNT_ATTEMPTS = """
import os, pathlib, signal, time
counter = pathlib.Path(__file__).with_suffix(".attempts")
attempts = len(counter.read_text()) if counter.exists() else 0
counter.write_text("x" * (attempts + 1))
"""

START_AND_STOP = """
import signal
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.evaluate import RayWorkers
handler = lambda number, frame: None
signal.signal(signal.SIGTERM, handler)
with RayWorkers(EvaluateLaunchConfig(cpus=1), retries=0, deadline_s=1) as workers:
    workers.start()
print("same handler" if signal.getsignal(signal.SIGTERM) is handler else "another handler")
"""


@pytest.fixture(scope="module")
def workers() -> Iterator[RayWorkers]:
    launch = EvaluateLaunchConfig(cpus=1)
    with RayWorkers(launch, retries=2, deadline_s=300) as workers:
        yield workers


@pytest.fixture
def run_script(workers: RayWorkers, tmp_path: Path) -> RunScript:
    """Runs a script as a task, which first notes that it was begun."""

    def run(script: str) -> Outcome:
        path = tmp_path / "task.py"
        path.write_text(COUNT_ATTEMPTS + script)
        workers.submit(Task("task", "a task", runpy.run_path, (str(path),)))
        assert workers.num_free == 0
        while not (outcomes := workers.finished(timeout_s=1.0)):
            assert not workers.is_idle
        assert workers.is_idle
        return outcomes[0]

    return run


def _attempts(tmp_path: Path) -> int:
    return len((tmp_path / "task.attempts").read_text())


def test_a_task_larger_than_the_machine_is_refused_at_once() -> None:
    launch = EvaluateLaunchConfig(cpus=2, cpus_per_task=3)

    with pytest.raises(ConfigError, match=r"cpus_per_task=3 is more than launch.evaluate.cpus=2"):
        RayWorkers(launch, retries=0, deadline_s=1).__enter__()


def test_ray_is_not_started_when_there_is_nothing_to_do(
    storage: Storage,
    journal: Journal,
    make_request: MakeRequest,
    add_commit: AddCommit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_commit(0)
    monkeypatch.delattr(evaluate, "_import_ray")

    skipped = make_request({"benchmark": "uvos", "test_split": "train"})

    assert run_evaluate(skipped, storage, journal) == 0


class SlowRay:
    """Comes up only after a number of attempts."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.num_shutdowns = 0

    def init(self, **settings: object) -> None:
        """Fails as Ray does when the machine is busy."""
        self.failures -= 1
        if self.failures >= 0:
            raise Exception("The current node timed out during startup.")

    def shutdown(self) -> None:
        """Counted."""
        self.num_shutdowns += 1

    def cluster_resources(self) -> dict[str, float]:
        """Those of a machine without GPUs."""
        return {"CPU": 2.0}


@pytest.mark.parametrize(("failures", "is_up"), [(0, True), (2, True), (3, False)])
def test_ray_is_given_three_attempts_to_come_up(
    failures: int, is_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = SlowRay(failures)
    monkeypatch.setattr(evaluate, "_import_ray", lambda: ray)
    expected = nullcontext() if is_up else pytest.raises(StageError, match="timed out during")

    with expected, RayWorkers(EvaluateLaunchConfig(), retries=0, deadline_s=1) as workers:
        workers.start()

    assert ray.num_shutdowns == failures + 1


def test_gpus_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_import_ray", lambda: SlowRay(0))
    launch = EvaluateLaunchConfig(gpus_per_task=0.5)

    refused = pytest.raises(ConfigError, match=r"gpus_per_task=0.5, but this machine has 0 GPUs")

    with RayWorkers(launch, retries=0, deadline_s=1) as workers, refused:
        workers.start()


@pytest.mark.slow
def test_a_task_whose_worker_was_killed_is_run_again(run_script: RunScript, tmp_path: Path) -> None:
    outcome = run_script("if attempts == 0: os.kill(os.getpid(), signal.SIGKILL)")

    assert outcome.error is None
    assert _attempts(tmp_path) == 2


@pytest.mark.slow
def test_a_task_that_raises_is_retried_and_its_error_reported(
    run_script: RunScript, tmp_path: Path
) -> None:
    outcome = run_script("raise KeyError(f'attempt {attempts}')")

    assert outcome.error == "KeyError: 'attempt 2'"
    assert "task.py" in outcome.traceback
    assert _attempts(tmp_path) == 3


@pytest.mark.slow
def test_a_task_past_its_deadline_is_stopped_and_the_next_one_runs(
    run_script: RunScript, workers: RayWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_script("").error is None  # starting a process may take longer than the deadline
    monkeypatch.setattr(workers, "_deadline_s", 3.0)
    outcome = run_script("time.sleep(600)")
    monkeypatch.setattr(workers, "_deadline_s", 300.0)

    assert outcome.error == "stopped after 0.05 min, which is evaluate.deadline_min"
    assert run_script("").error is None
    assert _attempts(tmp_path) == 3


@pytest.mark.slow
def test_an_evaluation_is_done_by_ray(
    storage: Storage,
    journal: Journal,
    make_request: MakeRequest,
    add_commit: AddCommit,
    workers: RayWorkers,
) -> None:
    add_commit(0)
    add_commit(40, nan=True)
    grid = plan_grid(storage, make_request({"benchmark": "knn"}))

    with pytest.raises(StageError, match=r"knn on squares, step-00000040, seed 0: .*not finite"):
        Evaluation(storage, journal, grid, workers).run(follow=None)

    assert [row.cells[0].state for row in score_table(storage, "r1")] == ["done", "failed"]


@pytest.mark.slow
def test_ray_leaves_the_process_and_the_machine_as_it_found_them(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", Path(tempfile.mkdtemp(dir="/tmp"))  # Ray wants it short
    home.mkdir()
    environment = os.environ | {"HOME": str(home), "TMPDIR": str(temporary)}
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        environment.pop(name, None)

    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", START_AND_STOP],
        env=environment,
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "same handler\n", "")
    assert list(home.iterdir()) == []
    assert list(temporary.iterdir()) == []
    temporary.rmdir()
