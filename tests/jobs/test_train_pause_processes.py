"""Two real ranks that wait together while a commit is evaluated."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import list_commits
from sigma_pipeline.jobs.config import LaunchConfig
from sigma_pipeline.jobs.gpu_sharing import EvaluationTurns
from sigma_pipeline.jobs.launch_train import launch_train
from sigma_pipeline.jobs.train_request import TrainRequest
from tests.jobs.test_train_processes import has_committed, kill, losses, wait_until

pytestmark = pytest.mark.slow

MakeRequest = Callable[..., TrainRequest]
PAUSE_S = 2.0


def test_two_ranks_pause_together_and_take_the_same_steps(
    storage: Storage, make_request: MakeRequest
) -> None:
    launch = LaunchConfig.model_validate(
        {
            "train": {"cpu_processes": 2, "timeout_min": 5},
            "evaluate": {"gpu_sharing": "pause", "gpus_per_task": 1},
        }
    )
    request = make_request(epochs=30)
    for name in ("tiny", "unpaused"):
        job = launch_train(replace(request, run_name=name), launch, Path(request.work_dir))
        try:
            if name == "tiny":
                wait_until(has_committed(storage, 4))
                with EvaluationTurns(request.scratch_dir, name) as turns:
                    turns.ask(is_wanting=True)
                    wait_until(turns.is_ours)
                    time.sleep(PAUSE_S)
            assert job.wait()["state"] == "finished"
        finally:
            kill(job)

    assert losses(storage, "tiny") == losses(storage, "unpaused")
    ledger = list_commits(storage, "tiny")[-1].ledger
    assert PAUSE_S <= ledger["paused_s"] < 20 * PAUSE_S
    assert "paused_s" not in list_commits(storage, "unpaused")[-1].ledger
