"""Tasks on Ray's workers: what they may take, and how they bear failures. Most start Ray."""

import os
import runpy
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.jobs import ray_calls
from sigma_pipeline.jobs.backlog import Outcome, Task, TaskLimits
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.ray_cluster import OwnCluster
from sigma_pipeline.jobs.ray_folder import RayFolder
from sigma_pipeline.jobs.ray_workers import RayWorkers

RunScript = Callable[..., Outcome]

COUNT_ATTEMPTS = """
import os, pathlib, signal, subprocess, time
counter = pathlib.Path(__file__).with_suffix(".attempts")
attempts = len(counter.read_text()) if counter.exists() else 0
counter.write_text("x" * (attempts + 1))
"""
TELL_PLACE = """
with pathlib.Path(__file__).with_suffix(".places").open("a") as places:
    print(os.getpid(), repr(os.environ.get("CUDA_VISIBLE_DEVICES")), file=places)
"""


class WithGpus(OwnCluster):
    """Ray on this machine, which is said to have two GPUs."""

    def _settings(self, folder: RayFolder) -> dict[str, Any]:
        return super()._settings(folder) | {"num_gpus": 2}


@pytest.fixture(scope="module")
def workers() -> Iterator[RayWorkers]:
    # Ray counts no more GPUs than this lets it see.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with RayWorkers(WithGpus(EvaluateLaunchConfig(cpus=1)), retries=2) as workers:
            yield workers


@pytest.fixture
def run_script(workers: RayWorkers, tmp_path: Path) -> RunScript:
    """Runs a script as a task, which first notes that it was begun."""

    def run(script: str, limits: TaskLimits = TaskLimits()) -> Outcome:  # noqa: B008 - frozen
        path = tmp_path / "task.py"
        path.write_text(COUNT_ATTEMPTS + script)
        task = Task("task", "a task", runpy.run_path, (str(path),), limits=limits)
        assert workers.has_room(task)
        workers.submit(task)
        assert not workers.has_room(Task("another", "another task", print, ()))
        while not (outcomes := workers.finished(timeout_s=1.0)):
            assert not workers.is_idle
        assert workers.is_idle
        return outcomes[0]

    return run


def _attempts(tmp_path: Path) -> int:
    return len((tmp_path / "task.attempts").read_text())


def test_a_task_larger_than_the_machine_is_refused_before_ray_starts() -> None:
    cluster = OwnCluster(EvaluateLaunchConfig(cpus=2, memory_gib=4))
    planned = {"knn on squares": TaskLimits(cpus=3), "uvos on demo": TaskLimits(memory_gib=5)}
    refused = pytest.raises(
        ConfigError,
        match=r"knn on squares asks for 3 CPUs, .* 2: .*cpus_per_task.*; uvos on demo asks for 5 G",
    )

    with refused, RayWorkers(cluster, retries=0, planned=planned):
        pass


def test_a_task_with_a_gpu_gives_its_memory_back_before_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    held: list[weakref.ref[torch.Tensor]] = []
    left: list[bool] = []
    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: left.append(any(one() is not None for one in held))
    )

    def keep_and_fail() -> None:
        tensor = torch.zeros(1)
        in_a_circle: list[Any] = [tensor]
        in_a_circle.append(in_a_circle)
        held.append(weakref.ref(tensor))
        raise ValueError(tensor.shape)

    with pytest.raises(ValueError, match="1"):
        ray_calls.call(keep_and_fail, (), TaskLimits(gpus=0.5))
    ray_calls.call(lambda: None, (), TaskLimits(gpus=1))

    assert left == [False, False]


def test_a_process_is_kept_to_its_share_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    done: list[object] = []
    monkeypatch.setattr(ray_calls, "cap_memory", done.append)

    for share in (0.2, None):
        ray_calls.call(done.append, ("work",), TaskLimits(gpus=0.5, gpu_memory_share=share))

    assert done == [0.2, "work", "work"]


@pytest.mark.parametrize(("gpus", "seen"), [(0, ""), (0.5, "3")])
def test_gpus_are_hidden_from_a_task_without_any(
    gpus: float, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    told: list[str] = []

    ray_calls.call(
        lambda: told.append(os.environ["CUDA_VISIBLE_DEVICES"]), (), TaskLimits(gpus=gpus)
    )

    assert told == [seen]


@pytest.mark.slow
def test_a_task_that_no_node_could_hold_is_refused_when_it_comes(workers: RayWorkers) -> None:
    large = Task("large", "a large task", print, (), limits=TaskLimits(gpus=3))

    assert not workers.has_room(large)
    assert (workers.refusal(large) or "").startswith("a large task asks for 3 GPUs")


@pytest.mark.slow
def test_a_task_whose_worker_was_killed_is_run_again(run_script: RunScript, tmp_path: Path) -> None:
    outcome = run_script("if attempts == 0: os.kill(os.getpid(), signal.SIGKILL)")

    assert outcome.error is None
    assert _attempts(tmp_path) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        ("ConnectionResetError", 3),
        ("StoreUnreachable", 3),
        ("StageError", 1),
        ("ValueError", 1),
    ],
)
def test_only_an_error_that_may_pass_is_retried(
    run_script: RunScript, tmp_path: Path, error: str, attempts: int
) -> None:
    imports = "from sigma_pipeline.infra.errors import StageError, StoreUnreachable"

    outcome = run_script(f"{imports}; raise {error}(f'attempt {{attempts}}')")

    assert outcome.error == f"{error}: attempt {attempts - 1}"
    assert "task.py" in outcome.traceback
    assert _attempts(tmp_path) == attempts


@pytest.mark.slow
def test_a_task_without_gpus_sees_none_and_one_with_gpus_has_its_process_for_itself(
    run_script: RunScript, tmp_path: Path
) -> None:
    for gpus in (0, 1, 0.5, 0, 1, 0):
        assert run_script(TELL_PLACE, TaskLimits(gpus=gpus)).error is None

    told = [line.split() for line in (tmp_path / "task.places").read_text().splitlines()]
    pids, devices = zip(*told, strict=True)
    assert [value == "''" for value in devices] == [True, False, False, True, False, True]
    assert len({pids[number] for number in (0, 1, 2, 4)}) == 4


@pytest.mark.slow
def test_a_task_past_its_deadline_is_stopped_with_what_it_started_and_the_next_one_runs(
    run_script: RunScript, tmp_path: Path
) -> None:
    assert run_script("").error is None  # starting a process may take longer than the deadline
    sleep = f"(pathlib.Path({str(tmp_path)!r}) / 'pid').write_text(str(child.pid)); child.wait()"

    outcome = run_script(
        f"child = subprocess.Popen(['sleep', '600']); {sleep}", TaskLimits(deadline_s=3.0)
    )

    error = "stopped after 0.05 min, which is deadline_min of its cell or evaluate.deadline_min"
    assert outcome.error == error
    assert run_script("").error is None
    assert _attempts(tmp_path) == 3
    child = Path("/proc") / (tmp_path / "pid").read_text() / "cmdline"
    assert not child.exists() or b"sleep" not in child.read_bytes()
