"""What cells may take, and what is refused before anything is launched."""

from typing import Any

import pytest

from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.cell_limits import cell_limits, place_problems
from sigma_pipeline.jobs.config import CellConfig, EvaluateConfig, LaunchConfig, SupervisedConfig


def config(**cell: Any) -> EvaluateConfig:
    return EvaluateConfig(cells=(CellConfig(benchmark="knn", dataset="d", **cell),))


REFERENCE = config(gpus=0).model_copy(update={"supervised": SupervisedConfig(dataset="d")})


def problems(evaluate: EvaluateConfig, cluster: str = "local", **launch: Any) -> list[str]:
    settings = {"cluster": cluster, "evaluate": launch}
    return list(place_problems(evaluate, LaunchConfig.model_validate(settings)))


def test_a_cell_takes_what_it_says_and_else_what_all_take() -> None:
    launch = LaunchConfig.model_validate(
        {"evaluate": {"cpus": 8, "cpus_per_task": 2, "gpus_per_task": 0.5}}
    ).evaluate
    own, common = config(cpus=4, gpus=0, memory_gib=3, deadline_min=1), config()

    assert cell_limits(own.cells[0], own, launch, trains=False) == TaskLimits(4, 0, 3, 60)
    assert cell_limits(common.cells[0], common, launch, trains=False) == TaskLimits(
        2, 0.5, None, 7200
    )


@pytest.mark.parametrize(
    ("evaluate", "launch", "problem"),
    [
        (config(cpus=3), {}, "evaluate.cells.0 asks for 3 CPUs, but no node has more than 2"),
        (config(memory_gib=9), {"memory_gib": 8}, "9 GiB of memory, but no node has more than 8"),
        (config(gpus=0.5), {"cluster": "slurm"}, "0.5 GPUs, but no node has more than 0"),
        (config(gpus=1.5), {}, "a share of one or whole ones"),
        (config(cpus=1), {"cpus_per_task": 3}, "evaluate.pictures asks for 3 CPUs"),
        (
            REFERENCE,
            {"cluster": "slurm", "gpus_per_task": 1},
            "evaluate.supervised asks for 1 GPUs, but no node has more than 0",
        ),
        (
            config(processes=5),
            {"cluster": "slurm", "nodes": 2},
            "all 2 nodes can hold no more than 4",
        ),
        (config(processes=2, gpus=2), {}, "2 GPUs for each of its processes"),
        (config(), {"nodes": 2}, "launch.evaluate.nodes=2 needs launch.cluster=slurm"),
        (config(), {"cluster": "slurm", "ray_address": "a:1"}, "launch.evaluate.ray_address=a:1"),
    ],
)
def test_what_could_never_start_is_said_with_its_key(
    evaluate: EvaluateConfig, launch: dict[str, Any], problem: str
) -> None:
    (said,) = problems(evaluate, **launch)

    assert problem in said


def test_what_may_be_there_is_not_refused() -> None:
    assert not problems(config(gpus=1))  # this machine's are counted when Ray has started
    assert not problems(config(cpus=64), ray_address="a:1")
    assert not problems(config(), "slurm", nodes=2)
    assert not problems(config(processes=4), "slurm", nodes=2)
