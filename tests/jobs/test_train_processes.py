"""Training as real processes: killed, stopped, resumed, and cut over several ranks."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.attempts import read_attempts
from sigma_pipeline.jobs.commits import list_commits, newest_commit
from sigma_pipeline.jobs.config import LaunchConfig, TrainLaunchConfig
from sigma_pipeline.jobs.launch_train import TrainJob, launch_train
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import TrainRequest

pytestmark = pytest.mark.slow

MakeRequest = Callable[..., TrainRequest]
Launch = Callable[[TrainRequest, int], TrainJob]


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Starts jobs, and ends those that a failed test left behind."""
    jobs = []

    def start(request: TrainRequest, ranks: int) -> TrainJob:
        config = LaunchConfig(train=TrainLaunchConfig(cpu_processes=ranks, timeout_min=5))
        jobs.append(launch_train(request, config, Path(request.work_dir)))
        return jobs[-1]

    yield start
    for job in jobs:
        kill(job)
        job.poll()


def controller(job: TrainJob) -> int:
    return int(job._job.job_id)


def ranks_of(job: TrainJob) -> list[int]:
    """Process numbers of the ranks, by rank."""
    children = Path(f"/proc/{controller(job)}/task/{controller(job)}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def kill(job: TrainJob) -> None:
    """Takes the whole job out at once, as a power cut would."""
    if job.poll() == "running":
        for pid in [*ranks_of(job), controller(job)]:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: job._job.done())


def wait_until(is_true: Callable[[], object], timeout_s: float = 300) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s, "waited too long"
        time.sleep(0.01)


def has_committed(storage: Storage, step: int) -> Callable[[], bool]:
    def check() -> bool:
        newest = newest_commit(storage, "tiny")
        return newest is not None and newest.step >= step

    return check


def losses(storage: Storage, run_name: str) -> dict[int, float]:
    """Loss by step; a step that two attempts took must have been the same."""
    entries, _ = read_entries(storage, run_name)
    found: dict[int, float] = {}
    for entry in entries:
        if entry.kind == "metrics":
            loss = entry.fields["values"]["train/loss"]
            assert found.setdefault(entry.fields["step"], loss) == pytest.approx(loss, rel=1e-6)
    return found


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_killed_run_goes_on_with_the_same_losses(
    storage: Storage, make_request: MakeRequest, launch: Launch, ranks: int
) -> None:
    request = make_request(epochs=40, commit_every_steps=20)
    launch(replace(request, run_name="undisturbed"), ranks).wait()
    job = launch(request, ranks)
    wait_until(has_committed(storage, 20))
    kill(job)

    resumed = launch(request, ranks).wait()

    assert resumed["step"] == 80
    assert len({commit.attempt for commit in list_commits(storage, "tiny")}) == 2
    assert losses(storage, "tiny") == losses(storage, "undisturbed")
    ends = [newest_commit(storage, name) for name in ("tiny", "undisturbed")]
    assert ends[0].weights_sha256 == ends[1].weights_sha256


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of DeepSpeed's, from torch 2.13
@pytest.mark.usefixtures("one_rank")
def test_a_stopped_run_goes_on_with_another_number_of_ranks_at_another_stage(
    storage: Storage, make_request: MakeRequest, launch: Launch
) -> None:
    request = make_request(model={"assignment": "soft"}, epochs=40, commit_every_steps=4)
    job = launch(replace(request, train=request.train.model_copy(update={"zero_stage": 3})), 2)
    wait_until(has_committed(storage, 4))
    job.stop()
    stopped = job.wait()
    run_train(request)
    run_train(replace(request, run_name="undisturbed"))

    assert (stopped["state"], stopped["reason"]) == ("stopped", "signal SIGTERM")
    assert 4 <= stopped["step"] < 80
    assert {commit.world_size for commit in list_commits(storage, "tiny")} == {1, 2}
    assert losses(storage, "tiny") == pytest.approx(losses(storage, "undisturbed"), rel=1e-3)


def test_a_signal_to_one_rank_stops_all_with_a_commit(
    storage: Storage, make_request: MakeRequest, launch: Launch
) -> None:
    job = launch(make_request(epochs=4000, commit_every_steps=10_000), 2)
    wait_until(has_committed(storage, 0))
    os.kill(ranks_of(job)[1], signal.SIGUSR2)

    result = job.wait()

    assert job.poll() == "stopped"
    assert result["reason"] == "signal SIGUSR2"
    assert newest_commit(storage, "tiny").prefix == result["commit"]
    assert result["step"] > 0


def test_the_death_of_the_launcher_stops_the_job_with_a_commit(
    storage: Storage, make_request: MakeRequest, tmp_path: Path
) -> None:
    request = make_request(epochs=4000, commit_every_steps=10_000)
    program = tmp_path / "launcher.py"
    program.write_text(LAUNCHER)
    (tmp_path / "request.pickle").write_bytes(__import__("pickle").dumps(request))
    with subprocess.Popen(
        [sys.executable, "-P", str(program), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as launcher:
        job_id = int(launcher.stdout.readline())
        wait_until(has_committed(storage, 0))
        launcher.kill()

    wait_until(lambda: not Path(f"/proc/{job_id}").exists())

    assert newest_commit(storage, "tiny").step > 0


def test_a_stop_while_starting_is_no_failure(
    storage: Storage, make_request: MakeRequest, launch: Launch
) -> None:
    job = launch(make_request(), 2)
    wait_until(lambda: len(ranks_of(job)) == 2)
    job.stop()

    assert job.wait()["state"] == "stopped"


def test_a_killed_rank_ends_the_job_and_is_named(
    storage: Storage, make_request: MakeRequest, launch: Launch
) -> None:
    job = launch(make_request(epochs=4000), 2)
    wait_until(has_committed(storage, 4))
    os.kill(ranks_of(job)[1], signal.SIGKILL)

    with pytest.raises(Exception, match="without a word on rank 1: killed from outside"):
        job.wait()

    assert job.poll() == "failed"
    end = read_attempts(storage, "tiny")[-1].end
    assert end is not None
    assert (end.state, end.reason.partition(":")[0]) == ("died", "ended without a word on rank 1")


def test_what_is_wrong_is_said_by_the_launcher_in_one_sentence(
    make_request: MakeRequest, launch: Launch
) -> None:
    request = make_request()
    wrong = replace(request, datasets=(replace(request.datasets[0], version="v2"),))

    with pytest.raises(Exception, match=r"dataset 'noise', split 'train', is not there yet"):
        launch(wrong, 2).wait()


def test_a_teacher_that_cannot_be_read_ends_every_rank(
    make_request: MakeRequest, launch: Launch
) -> None:
    target = {"kind": "dino", "teacher": "dino_s", "teacher_weights": "/nowhere/dino.pth"}

    job = launch(make_request(model={"target": target}), 2)

    with pytest.raises(StageError, match=r"/nowhere/dino\.pth does not exist"):
        job.wait()
    failures = job._job.failures()
    assert len(failures) == 2
    assert all("StageError: the frozen teacher" in failure for failure in failures)


LAUNCHER = """
import pickle, sys, time
from pathlib import Path
from sigma_pipeline.jobs.config import LaunchConfig
from sigma_pipeline.jobs.launch_train import launch_train
request = pickle.loads(Path(sys.argv[1], "request.pickle").read_bytes())
job = launch_train(request, LaunchConfig(), Path(request.work_dir))
print(job._job.job_id, flush=True)
time.sleep(600)
"""
