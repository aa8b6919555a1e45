"""Training whose processes or nodes die without a word: it goes on, or says why it does not."""

import os
import signal
from pathlib import Path
from shutil import rmtree

import pytest

from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.conftest import MakeTrial, Shared
from tests.slurm.trial import COMMIT_EVERY_STEPS, TOTAL_STEPS, Trial

pytestmark = pytest.mark.slow


def require_little_lost(trial: Trial, attempt: int, committed: int) -> None:
    """An attempt, from 0, began at least with what was known to be committed."""
    starts = [record["from_step"] for record in trial.records("train/attempts").values()]
    assert starts[attempt] >= committed > 0
    assert starts[attempt] % COMMIT_EVERY_STEPS == 0


@pytest.mark.parametrize("rank", [0, 1])
def test_training_outlives_a_node(
    make_trial: MakeTrial, cluster: Cluster, shared: Shared, rank: int
) -> None:
    trial = make_trial(nodes=3)
    trial.submit()
    trial.wait_for_step(20)
    (attempt,) = trial.records("train/attempts").values()
    lost = attempt["nodes"][rank]  # of rank 0: SLURM's batch script runs there, too
    committed = trial.newest_step()

    cluster.crash(lost)

    try:
        wait_until(lambda: len(trial.records("train/attempts")) == 2)
        require_little_lost(trial, 1, committed)
        trial.wait_for_end()
    finally:
        cluster.start(lost)
        cluster.wait_for_node(lost)
    *_, last = trial.records("train/attempts").values()
    assert lost not in last["nodes"]
    assert trial.curve() == shared.undisturbed
    assert f"finished at step {TOTAL_STEPS}" in trial.status()


def test_training_outlives_a_killed_rank_and_one_that_hangs(
    make_trial: MakeTrial, cluster: Cluster, shared: Shared
) -> None:
    short = {"stall_timeout_s": 20, "preflight": False}  # which takes a fifth of it at most
    trial = make_trial({"launch": {"train": short}})
    job_id = trial.submit()
    trial.wait_for_step(10)
    committed = trial.newest_step()

    os.kill(cluster.ranks(job_id, trial.nodes)[1], signal.SIGKILL)

    wait_until(lambda: len(trial.records("train/attempts")) == 2)
    require_little_lost(trial, 1, committed)
    trial.wait_for_step(committed + 10)
    hangs = cluster.ranks(job_id, trial.nodes)[1]
    host = list(trial.records("train/attempts").values())[1]["nodes"][1]

    os.kill(hangs, signal.SIGSTOP)

    wait_until(lambda: len(trial.records("train/ends")) == 2, timeout_s=20 + 40)
    died, stalled = trial.records("train/ends").values()
    assert died["state"] in ("died", "failed")
    assert f"rank 1 on {host}" in stalled["reason"]
    trial.wait_for_end()
    assert trial.submitted("train") == [job_id]
    assert trial.curve() == shared.undisturbed


def test_training_that_always_dies_is_given_up_with_a_verdict(
    make_trial: MakeTrial, cluster: Cluster
) -> None:
    settings = {"nodes": 1, "max_attempts_without_progress": 2}
    trial = make_trial({"launch": {"train": settings}}, nodes=1)
    job_id = trial.submit()

    def kill_it() -> bool:
        for pid in cluster.ranks(job_id, trial.nodes).values():
            os.kill(pid, signal.SIGKILL)
        return not cluster.job_ids(trial.run_name)

    wait_until(kill_it)

    verdict = trial.records("train")["verdict"]
    assert verdict["attempts"] == 2
    shown = trial.status()
    assert "given up after 2 attempts in a row without a commit" in shown
    assert "attempt 1: died at step 0" in shown
    status = f"select status from runs where name = '{trial.run_name}'"
    assert trial.tracked(status) == [("FAILED",)]

    trial.submit()  # by a person, who is believed to have found the cause

    trial.wait_for_end()
    assert trial.newest_step() == TOTAL_STEPS
    assert trial.tracked(status) == [("FINISHED",)]


def test_a_bad_node_is_named_and_avoided(
    make_trial: MakeTrial, cluster: Cluster, shared: Shared
) -> None:
    scratch = Path("/dev/shm/sigma-pipeline-bad-node")  # each node has a /dev/shm of its own
    trial = make_trial({"scratch_dir": str(scratch / "scratch")}, nodes=3)
    bad = trial.nodes[1]
    cluster.ask("srun", f"--nodelist={bad}", "touch", str(scratch))
    try:
        trial.submit()
        trial.wait_for_end()
    finally:
        cluster.ask("srun", f"--nodelist={bad}", "rm", "-f", str(scratch))
        rmtree(scratch, ignore_errors=True)  # of the command itself

    first, second = trial.records("train/attempts").values()
    failed, finished = trial.records("train/ends").values()
    assert bad in first["nodes"]
    assert failed["bad_nodes"] == [bad]
    assert f"{bad}" in failed["reason"]
    assert bad not in second["nodes"]
    assert finished["state"] == "finished"
    assert trial.curve() == shared.undisturbed
