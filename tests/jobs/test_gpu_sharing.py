"""One GPU for training and evaluation: turns, shares of memory, and what a recipe is told."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sigma_pipeline.jobs.backlog import Task, TaskLimits
from sigma_pipeline.jobs.config import CellConfig, EvaluateConfig, LaunchConfig, SupervisedConfig
from sigma_pipeline.jobs.gpu_sharing import (
    EvaluationTurns,
    TrainingTurns,
    cap_memory,
    capped,
    evaluation_launch,
    evaluation_turns,
    missing_rule,
    training_share,
    useless_rule,
)

WANTS = """
import sys, time
from sigma_pipeline.jobs.gpu_sharing import EvaluationTurns
turns = EvaluationTurns(sys.argv[1], "r1")
turns.ask(is_wanting=True)
print(turns.is_ours(), flush=True)
time.sleep(600)
"""
KNN = EvaluateConfig(cells=(CellConfig(benchmark="knn", dataset="set"),))


def launch(cluster: str = "local", **evaluate: object) -> LaunchConfig:
    settings = {"gpus_per_task": 1} | evaluate
    return LaunchConfig.model_validate({"cluster": cluster, "evaluate": settings})


def test_the_two_take_turns_and_neither_begins_in_the_others(tmp_path: Path) -> None:
    with (
        TrainingTurns(str(tmp_path), "r1") as training,
        EvaluationTurns(str(tmp_path), "r1") as evaluation,
    ):
        assert training.take()
        assert not evaluation.is_ours()  # it has not asked
        assert training.take()

        evaluation.ask(is_wanting=True)
        assert not evaluation.is_ours()  # a step is still going on
        assert not training.take()
        training.give()
        assert evaluation.is_ours()
        assert not training.take()

        evaluation.ask(is_wanting=False)
        assert training.take()


def test_runs_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with TrainingTurns(str(tmp_path), "r1") as one, EvaluationTurns(str(tmp_path), "r2") as other:
        other.ask(is_wanting=True)

        assert other.is_ours()
        assert one.take()


def test_a_turn_ends_with_the_process_that_has_it(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", WANTS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as evaluation:
        assert evaluation.stdout is not None
        assert evaluation.stdout.readline() == "True\n"
        with TrainingTurns(str(tmp_path), "r1") as training:
            assert not training.take()
            evaluation.kill()
            evaluation.wait()
            assert training.take()


def test_evaluation_takes_turns_only_along_with_training(tmp_path: Path) -> None:
    pause = launch(gpu_sharing="pause").evaluate

    assert evaluation_turns(pause, str(tmp_path), "r1", is_following=False) is None
    assert evaluation_turns(launch().evaluate, str(tmp_path), "r1", is_following=True) is None
    turns = evaluation_turns(pause, str(tmp_path), "r1", is_following=True)
    assert turns is not None
    turns.close()


def test_shares_of_memory_add_up_to_the_gpu() -> None:
    config = launch(gpu_sharing="memory_cap", gpu_memory_share=0.4)
    training = training_share(config)

    assert training is not None
    assert training.memory_share + config.evaluate.gpu_memory_share == 1


def test_only_tasks_on_the_gpu_are_capped() -> None:
    config = launch(gpu_sharing="memory_cap", gpu_memory_share=0.4).evaluate
    on_gpu, on_cpu = (Task("a", "a", print, (), limits=TaskLimits(gpus=gpus)) for gpus in (0.5, 0))

    shares = {0.25: 0.1, 0.5: 0.2, 1: 0.4, 2: 0.4}  # as four, two, or one hold a GPU; of each
    for gpus, share in shares.items():
        task = replace(on_gpu, limits=TaskLimits(gpus=gpus, processes=2))
        assert capped(task, config).limits == replace(task.limits, gpu_memory_share=share)
    assert capped(on_cpu, config) == on_cpu
    assert capped(on_gpu, launch().evaluate) == on_gpu
    assert capped(on_gpu, launch(gpu_sharing="pause").evaluate) == on_gpu


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (launch("slurm", gpu_sharing="pause"), "never run on one GPU"),
        (launch("debug", gpu_sharing="memory_cap"), "never run on one GPU"),
        (launch(gpu_sharing="pause", ray_address="host:1"), "launch.evaluate.ray_address"),
        (launch(gpu_sharing="pause", gpus_per_task=0), "launch.evaluate.gpus_per_task"),
    ],
)
def test_a_rule_that_does_nothing_is_said_to(config: LaunchConfig, reason: str) -> None:
    remark = useless_rule(config, KNN)

    assert remark is not None
    assert f"does nothing: {reason}" in remark or reason in remark
    if "gpus_per_task" not in reason:
        assert training_share(config) is None
        assert evaluation_launch(config).gpu_sharing is None


def test_a_gpu_that_both_want_without_a_rule_is_warned_of() -> None:
    remark = missing_rule(launch(), KNN)

    assert remark is not None
    assert "pause lets training wait" in remark
    assert missing_rule(launch(gpu_sharing="pause"), KNN) is None
    assert missing_rule(launch(gpus_per_task=0), KNN) is None
    assert missing_rule(launch("slurm"), KNN) is None
    assert useless_rule(launch(gpu_sharing="pause"), KNN) is None


def test_the_supervised_reference_takes_the_gpu_though_no_cell_does() -> None:
    cell = CellConfig(benchmark="knn", dataset="set", gpus=0)
    alone = EvaluateConfig(cells=(cell,))
    supervised = EvaluateConfig(cells=(cell,), supervised=SupervisedConfig(dataset="set"))

    assert missing_rule(launch(), alone) is None
    assert missing_rule(launch(), supervised) is not None
    assert useless_rule(launch(gpu_sharing="pause"), alone) is not None
    assert useless_rule(launch(gpu_sharing="pause"), supervised) is None


@pytest.mark.gpu
def test_a_capped_process_gets_no_more_than_its_share() -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        cap_memory(0.01)
        torch.empty(total // 400, dtype=torch.uint8, device="cuda")
        with pytest.raises(torch.cuda.OutOfMemoryError):
            torch.empty(total // 50, dtype=torch.uint8, device="cuda")
    finally:
        cap_memory(1.0)
