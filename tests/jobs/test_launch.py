"""What an executor is told, and what is made of how a job ended."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import launch
from sigma_pipeline.jobs.config import LaunchConfig, TrainLaunchConfig
from sigma_pipeline.jobs.launch import (
    executor_parameters,
    find_our_error,
    launch_train,
    processes_per_node,
)
from sigma_pipeline.jobs.train_request import TrainRequest

LOG = Path("/logs/0_log.err")


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


def test_resources_reach_the_executor_under_its_own_names() -> None:
    train = TrainLaunchConfig(nodes=2, cpus_per_process=7, timeout_min=90)
    config = LaunchConfig(cluster="slurm", partition="gpu", train=train)

    parameters = executor_parameters(config, 4, 4, name="train-run")

    assert parameters == {
        "name": "train-run",
        "nodes": 2,
        "tasks_per_node": 4,
        "gpus_per_node": 4,
        "cpus_per_task": 7,
        "timeout_min": 90,
        "slurm_partition": "gpu",
        "slurm_account": None,
    }


def test_children_inherit_the_settings_and_the_launcher_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("MASTER_ADDR", "elsewhere")

    with launch._child_settings(3, is_local=True):
        inside = dict(os.environ)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, set())

    assert (inside["OMP_NUM_THREADS"], inside["PYTHONSAFEPATH"]) == ("3", "1")
    assert inside["GLOO_SOCKET_IFNAME"] == "lo"
    assert "MASTER_ADDR" not in inside
    assert {signal.SIGINT, signal.SIGHUP} <= blocked
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MASTER_ADDR"]) == ("5", "elsewhere")
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_children_lose_an_outer_job_but_keep_where_the_site_keeps_its_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CONF", "/site/slurm.conf")

    with launch._child_settings(1, is_local=False):
        inherited = dict(os.environ)

    assert "SLURM_JOB_ID" not in inherited
    assert inherited["SLURM_CONF"] == "/site/slurm.conf"


def test_the_error_of_a_rank_is_found_among_the_lost_connections() -> None:
    lost = "Traceback\nRuntimeError: Connection closed by peer\n\n----------------------\nlogs"
    cause = (
        "Traceback\n  raise MissingInputError(\n"
        "sigma_pipeline.infra.errors.MissingInputError: dataset 'd' is not there; make it\n"
        "\n----------------------\nYou can check full logs"
    )

    error = find_our_error([lost, cause], LOG)

    assert isinstance(error, MissingInputError)
    assert str(error) == f"dataset 'd' is not there; make it (log: {LOG})"


def test_errors_of_others_are_not_taken_for_ours() -> None:
    trace = "Traceback:\n  File x\nRuntimeError: Connection closed by peer\n"

    assert find_our_error([trace], LOG) is None


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
