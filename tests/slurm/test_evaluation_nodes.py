"""Evaluation on several nodes of SLURM: one Ray cluster inside each job."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from sigma_pipeline.jobs.ray_folder import RayFolder
from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.conftest import MakeTrial, Shared
from tests.slurm.trial import TOTAL_STEPS, Trial, merged

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)
EVALUATED: dict[str, Any] = {
    "train": {"commit_every_steps": 10},
    "evaluate": {
        "cells": [
            {"benchmark": "knn", "dataset": "noise", "settings": {"k": 3}},
            {"benchmark": "linear", "dataset": "noise", "seeds": SEEDS},
        ],
        "view": {"frame_stride": 1, "crop": "resize"},
        "pictures": False,
    },
    "launch": {"evaluate": {"nodes": 2, "cpus": 1}},
}
OVER_BOTH_NODES: dict[str, Any] = {
    "benchmark": "finetune",
    "dataset": "noise",
    "processes": 2,
    "settings": {"epochs": 5, "warmup_epochs": 1, "batch_videos": 8},
}
"""On nodes of one processor each."""
NUM_CELLS = (TOTAL_STEPS // 10 + 1) * (1 + len(SEEDS))

Scores = dict[str, list[Any]]
Evaluating = Callable[..., tuple[Trial, str]]


def copy_training(shared: Shared, trial: Trial) -> None:
    """Gives a run the commits that another one has made."""
    runs = shared.store / "runs"
    shutil.copytree(runs / "undisturbed" / "train", runs / trial.run_name / "train")


def scores(trial: Trial) -> Scores:
    """Of each cell that is done, by commit, benchmark, and the rest of its name."""
    folder = trial.store / "runs" / trial.run_name / "evaluate"
    cells = {path: json.loads(path.read_text()) for path in folder.glob("step-*/*/noise/*.json")}
    return {str(path.relative_to(folder)): cell["scores"] for path, cell in cells.items()}


@pytest.fixture(scope="module")
def alone(shared: Shared, cluster: Cluster) -> Scores:
    """Scores of the same commits by one machine that nobody disturbed."""
    local = {"launch": {"cluster": "local", "evaluate": {"nodes": 1}}}
    recipe = merged(merged(shared.recipe, EVALUATED), local)
    trial = Trial(f"alone-{os.getpid()}", shared.store, cluster, (), recipe)
    copy_training(shared, trial)
    done = trial.command("run", "--stage", "evaluate")
    assert done.returncode == 0, done.stderr
    assert len(scores(trial)) == NUM_CELLS
    return scores(trial)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """What Ray may leave lies here."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # Ray wants it short
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def evaluating(make_trial: MakeTrial, shared: Shared, temporary: Path) -> Evaluating:
    """Submits the evaluation of a run that is trained; returns it with the number of its job."""

    def evaluate(*more_cells: Mapping[str, Any], **launch: Any) -> tuple[Trial, str]:
        changes = {
            "evaluate": {"cells": [*EVALUATED["evaluate"]["cells"], *more_cells]},
            "launch": {"setup": [f"export TMPDIR={temporary}"], **launch},
        }
        trial = make_trial(merged(EVALUATED, changes))
        return trial, submit(trial, shared)

    return evaluate


def submit(trial: Trial, shared: Shared) -> str:
    copy_training(shared, trial)
    done = trial.command("run", "--stage", "evaluate")
    assert done.returncode == 0, done.stderr
    (job_id,) = trial.submitted("evaluate")
    return job_id


@contextmanager
def crashed(cluster: Cluster, node: str) -> Iterator[None]:
    """A node is gone until the block is left."""
    cluster.crash(node)
    try:
        yield
    finally:
        cluster.start(node)
        cluster.wait_for_node(node)


def test_an_evaluation_goes_on_without_a_node_that_died(
    evaluating: Evaluating, cluster: Cluster, alone: Scores, temporary: Path
) -> None:
    trial, job_id = evaluating()
    wait_until(lambda: len(scores(trial)) > 3)

    with crashed(cluster, trial.nodes[1]):
        trial.wait_for_end()

    assert cluster.facts(job_id)["JobState"] == "COMPLETED"
    assert cluster.facts(job_id)["Restarts"] == "0"
    assert scores(trial) == alone
    assert not cluster.processes(job_id, trial.nodes)


def test_an_evaluation_whose_driver_died_with_its_node_is_started_again(
    evaluating: Evaluating, cluster: Cluster, alone: Scores
) -> None:
    trial, job_id = evaluating()
    wait_until(lambda: len(scores(trial)) > 3)
    before = scores(trial)

    with crashed(cluster, cluster.facts(job_id)["BatchHost"]):
        wait_until(lambda: cluster.facts(job_id)["Restarts"] == "1")
    trial.wait_for_end()

    assert scores(trial) == alone
    assert before.items() <= alone.items()


def test_an_evaluation_that_comes_near_its_time_limit_is_queued_again_and_a_gang_goes_on(
    evaluating: Evaluating, cluster: Cluster, alone: Scores
) -> None:
    trial, job_id = evaluating(OVER_BOTH_NODES)
    folder = trial.store / "runs" / trial.run_name / "evaluate"
    commits = "step-*/finetune/noise/*.training/train/step-*[1-9]*/*/commit.json"
    wait_until(lambda: list(folder.glob(commits)))

    cluster.ask("scancel", "--signal=USR2", job_id)

    wait_until(lambda: cluster.facts(job_id)["Restarts"] == "1")
    trial.wait_for_end()
    assert cluster.facts(job_id)["JobState"] == "COMPLETED"
    done = scores(trial)
    (fine_tuned,) = done.keys() - alone.keys()
    assert fine_tuned.split("/")[1] == "finetune"
    assert {name: done[name] for name in alone} == alone
    assert not list(folder.glob(commits))


def test_evaluations_on_the_same_nodes_leave_each_other_alone(
    evaluating: Evaluating,
    cluster: Cluster,
    shared: Shared,
    alone: Scores,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cancelled, first = evaluating(sbatch={"hold": True})
    recipe = yaml.safe_load(cancelled.recipe.read_text())
    other = Trial(f"{cancelled.run_name}-other", shared.store, cluster, cancelled.nodes, recipe)
    second = submit(other, shared)
    cluster.ask("scontrol", "release", first)
    cluster.ask("scontrol", "release", second)
    # As soon as Ray is there for both, on both nodes: they would soon be done.
    wait_until(lambda: scores(cancelled) and len(list(temporary.iterdir())) == 4)

    cluster.ask("scancel", first)

    other.wait_for_end()
    assert scores(other) == alone
    assert len(scores(cancelled)) < NUM_CELLS
    wait_until(lambda: not cluster.processes(first, other.nodes))
    assert not cluster.processes(second, other.nodes)
    # SLURM kills what takes longer to end than it allows: the next one on the node clears up then.
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    RayFolder().remove()
    assert list(temporary.iterdir()) == []
