"""The whole pipeline on a real SLURM: one command, then nobody."""

from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.conftest import MakeTrial, Shared
from tests.slurm.trial import TOTAL_STEPS, Trial, write_videos

pytestmark = pytest.mark.slow

EVALUATED = {
    "train": {"commit_every_steps": 30},
    "evaluate": {
        "cells": [{"benchmark": "knn", "dataset": "noise", "settings": {"k": 3}}],
        "view": {"frame_stride": 1, "crop": "resize"},
        "pictures": False,
    },
}
COMMITS = (0, 30, 60)


def evaluated_steps(trial: Trial) -> set[int]:
    """Steps of the commits that have a cell."""
    cells = (trial.store / "runs" / trial.run_name / "evaluate").glob("step-*/knn/noise/0-*.json")
    return {int(cell.parts[-4].removeprefix("step-")) for cell in cells}


def test_one_command_shards_trains_and_evaluates(
    make_trial: MakeTrial, cluster: Cluster, shared: Shared, tmp_path: Path
) -> None:
    trial = make_trial(EVALUATED, store=tmp_path / "store")

    done = trial.command("run", "--stage", "all")

    assert done.returncode == 0, done.stderr
    assert cluster.job_ids(trial.run_name), "the command did not return at once"
    said = done.stdout + done.stderr
    assert all(word in said for word in ("status", "logs --follow", "cancel"))
    (job_id,) = trial.submitted("train")
    wait_until(lambda: len(cluster.ranks(job_id, trial.nodes)) == 2)
    (rank, _) = cluster.ranks(job_id, trial.nodes).values()
    copy = Path(cluster.processes(job_id, trial.nodes)[rank]["PYTHONPATH"].split(":")[0])
    assert copy.is_relative_to(trial.store / "work")
    assert (copy / "sigma_pipeline" / "jobs" / "train.py").exists()
    trial.wait_for_end()
    assert trial.curve() == shared.undisturbed
    assert evaluated_steps(trial) == set(COMMITS)
    evaluations = [job for job in trial.records("submitted").values() if job["step"] is not None]
    assert [job["step"] for job in evaluations] == list(COMMITS)
    assert trial.tracked("select status from runs") == [("FINISHED",)]
    shown = trial.status()
    assert "noise/train: 32 samples" in shown
    assert f"finished at step {TOTAL_STEPS}" in shown
    assert all(f"step {step}" in shown for step in COMMITS[1:])


def test_training_without_its_shards_is_given_up_and_says_where_to_look(
    make_trial: MakeTrial, tmp_path: Path
) -> None:
    write_videos(tmp_path / "source", 8)
    for number in range(8):
        (tmp_path / "source" / "left" / f"bad-{number}.mp4").write_bytes(b"no video")
    source = {"datasets": {"noise": {"source": str(tmp_path / "source")}}}
    trial = make_trial(source, store=tmp_path / "store")

    trial.submit("all")

    trial.wait_for_end()
    reason = trial.records("train")["verdict"]["reason"]
    assert "'noise'" in reason
    assert "sigma-pipeline logs --stage shard" in reason
    assert trial.tracked("select status from runs") == [("FAILED",)]
    assert "given up" in trial.status()
    assert "max_rejected_fraction" in trial.command("logs", "--stage", "shard").stdout


def test_a_chain_of_jobs_trains_and_its_follower_evaluates(
    make_trial: MakeTrial, shared: Shared
) -> None:
    chain = {"continue_by": "chain", "chain_jobs": 4}
    launch = {"launch": {"train": chain, "jobs_may_submit": False}}
    trial = make_trial(EVALUATED | launch)

    trial.submit("all")

    trial.require_submitted()
    jobs = trial.submitted("train")
    assert len(jobs) == 4
    trial.kill_rank(jobs[0], 1, after=10)
    trial.kill_rank(jobs[1], 1, after=40)
    trial.wait_for_end()
    attempts = trial.records("train/attempts").values()
    assert [attempt["job_id"] for attempt in attempts] == jobs[:3]
    assert trial.curve() == shared.undisturbed
    assert trial.submitted("train") == jobs
    assert evaluated_steps(trial) == set(COMMITS)
    status = f"select status from runs where name = '{trial.run_name}'"
    assert trial.tracked(status) == [("FINISHED",)]
