"""What an executor is told of training, and what runs in it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.config import LaunchConfig, TrainLaunchConfig
from sigma_pipeline.jobs.launch_train import (
    executor_parameters,
    launch_train,
    processes_per_node,
)
from sigma_pipeline.jobs.train_request import TrainRequest


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
