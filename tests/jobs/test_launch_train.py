"""What an executor is told of training, and what runs in it."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs import launch_train as launch_train_module
from sigma_pipeline.jobs import train
from sigma_pipeline.jobs.attempts import read_attempts
from sigma_pipeline.jobs.commit_evaluation import CommitEvaluation
from sigma_pipeline.jobs.config import LaunchConfig, TrainLaunchConfig
from sigma_pipeline.jobs.launch_train import (
    TrainJob,
    TrainTask,
    launch_train,
    processes_per_node,
)
from sigma_pipeline.jobs.stop_wish import StopWish
from sigma_pipeline.jobs.train_attempt import RecordedEnd, begin_attempt
from sigma_pipeline.jobs.train_request import RankPlace, TrainRequest
from tests.jobs.snapshots import make_snapshot


def test_without_cuda_a_node_has_as_many_processes_as_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    config = LaunchConfig(train=TrainLaunchConfig(cpu_processes=3, gpus_per_node=8))

    assert processes_per_node(config) == (3, 0)


def test_with_cuda_there_is_one_process_per_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    config = LaunchConfig(train=TrainLaunchConfig(gpus_per_node=2))

    assert processes_per_node(config) == (2, 2)


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    config = LaunchConfig(train=TrainLaunchConfig(gpus_per_node=8))

    with pytest.raises(ConfigError, match=r"gpus_per_node=8, but this machine shows 1"):
        processes_per_node(config)


@pytest.mark.parametrize("cluster", ["local", "debug"])
def test_several_nodes_need_slurm(cluster: str) -> None:
    config = LaunchConfig(cluster=cluster, train=TrainLaunchConfig(nodes=2))

    with pytest.raises(ConfigError, match=r"nodes=2 needs launch\.cluster=slurm"):
        processes_per_node(config)


def test_on_slurm_the_build_of_pytorch_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)  # a login node
    config = LaunchConfig(cluster="slurm", train=TrainLaunchConfig(nodes=2, gpus_per_node=4))

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with_cuda = processes_per_node(config)
    monkeypatch.setattr(torch.version, "cuda", None)

    assert with_cuda == (4, 4)
    assert processes_per_node(config) == (config.train.cpu_processes, 0)


@pytest.mark.usefixtures("one_rank")
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of DeepSpeed's, from torch 2.13
def test_the_debug_executor_trains_in_this_process(
    make_request: Callable[..., TrainRequest], storage: Storage
) -> None:
    request = make_request(epochs=1)

    job = launch_train(request, LaunchConfig(cluster="debug"), Path(request.work_dir))
    job.stop()  # nobody to ask yet

    assert not storage.list("runs")
    assert job.wait()["state"] == "finished"
    assert job.poll() == "finished"


class KilledJob:
    """One of two processes that were ended at once: nothing of them is left but the log."""

    log_path = Path("log")

    def done(self) -> bool:
        """It is."""
        return True

    def silent_ranks(self) -> list[int]:
        """Both."""
        return [0, 1]

    def failures(self) -> list[str]:
        """None was left."""
        return []


def test_what_a_watchdog_recorded_is_why_the_job_failed(
    storage: Storage, make_request: Callable[..., TrainRequest]
) -> None:
    request = make_request()
    killed: Any = KilledJob()
    attempt, step = begin_attempt(storage, request, ["n1", "n2"])
    before = TrainJob(killed, replace(request, failures_since=new_attempt()))
    RecordedEnd(storage, "tiny", attempt, rank=0, step=step).keep("failed", "rank 1 is frozen", 7)

    with pytest.raises(StageError, match=r"rank 1 is frozen \(log: log\)"):
        TrainJob(killed, request).wait()
    with pytest.raises(StageError, match="without a word on rank 0, 1"):
        before.wait()


class FakeEvaluation:
    """Stands for what rank 0 submits."""

    def __init__(self) -> None:
        self.steps: list[int | None] = []

    def require_sbatch(self) -> None:
        """It can be submitted."""

    def on_commit(self, step: int) -> None:
        """A commit."""
        self.steps.append(step)

    def on_end(self, is_stopping: Callable[[], bool]) -> bool:
        """The end; a wish to stop ends the waiting for SLURM."""
        assert is_stopping()
        self.steps.append(None)
        return True


@pytest.mark.parametrize(
    ("rank", "state", "steps"),
    [(0, "finished", [4, None]), (0, "stopped", [4]), (1, "finished", [4])],
)
def test_rank_0_submits_the_last_evaluation_when_training_is_done(
    make_request: Callable[..., TrainRequest],
    monkeypatch: pytest.MonkeyPatch,
    rank: int,
    state: str,
    steps: list[int | None],
) -> None:
    def run_train(
        _request: TrainRequest,
        place: RankPlace,
        *,
        wish: StopWish,
        on_commit: Callable[[int], None],
    ) -> dict[str, str]:
        signal.raise_signal(signal.SIGUSR2)  # by default the end of the process
        assert wish.is_wished()
        on_commit(4)
        return {"state": state}

    monkeypatch.setattr(launch_train_module, "this_place", lambda: RankPlace(rank=rank))
    monkeypatch.setattr(launch_train_module, "is_local_job", lambda: False)
    monkeypatch.setattr(train, "run_train", run_train)
    evaluation: Any = FakeEvaluation()

    TrainTask(request=make_request(), visible_devices=None, evaluation=evaluation)()

    assert evaluation.steps == steps


def test_a_container_without_sbatch_is_refused_once_for_all(
    tmp_path: Path, make_request: Callable[..., TrainRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_train_module, "this_place", RankPlace)
    monkeypatch.setattr(launch_train_module, "is_local_job", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    task: Any = None
    evaluation = CommitEvaluation(
        task, make_snapshot(tmp_path, python="apptainer exec i python"), cadences=()
    )
    request = make_request()

    with pytest.raises(ConfigError, match=r"launch\.jobs_may_submit=false, or mount SLURM's"):
        TrainTask(request=request, visible_devices=None, evaluation=evaluation)()

    (attempt,) = read_attempts(open_storage(request.root_uri), request.run_name)
    assert attempt.end is not None
    assert attempt.end.is_final
