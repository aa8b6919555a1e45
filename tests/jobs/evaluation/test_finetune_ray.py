"""Fine-tuning by Ray, of which a process is killed in the middle: the same scores."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.attempts import AttemptRecord, read_attempts
from sigma_pipeline.jobs.cells import Cell, CellRecord
from sigma_pipeline.jobs.commits import Commit, manifest_key, newest_step
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation import Evaluation
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.ray_cluster import OwnCluster
from sigma_pipeline.jobs.ray_workers import RayWorkers
from tests.jobs.evaluation.conftest import RUN

pytestmark = pytest.mark.slow
CELL: dict[str, Any] = {
    "benchmark": "finetune",
    "settings": {"epochs": 16, "warmup_epochs": 1, "batch_videos": 8, "keeps_weights": False},
}
STEPS = 16 * (24 // 8)


@pytest.fixture(scope="module")
def ray_workers() -> Iterator[RayWorkers]:
    """Room for a gang of two."""
    with RayWorkers(OwnCluster(EvaluateLaunchConfig(cpus=2)), retries=1) as workers:
        yield workers


@dataclass(frozen=True)
class Killing:
    """Looks at the training of a cell, and kills its first process once."""

    storage: Storage
    training: str

    def watch(self, has_ended: Callable[[], bool]) -> list[AttemptRecord]:
        """The attempts that were made until ``has_ended``, after which nothing is left of them."""
        seen: dict[str, AttemptRecord] = {}
        is_killed = False
        while not has_ended():
            attempts = read_attempts(self.storage, self.training)
            seen |= {one.name: one.record for one in attempts if one.record}
            if not is_killed and newest_step(self.storage, self.training) >= STEPS // 4:
                (first,) = seen.values()
                os.kill(first.pid, signal.SIGKILL)
                is_killed = True
            time.sleep(0.02)
        return list(seen.values())


@pytest.mark.parametrize("processes", [1, 2])
def test_a_fine_tuning_whose_process_is_killed_goes_on_and_gives_the_same_scores(
    storage: Storage,
    journal: Journal,
    make_request: Callable[..., EvaluateRequest],
    add_commit: Callable[..., Commit],
    ray_workers: RayWorkers,
    processes: int,
) -> None:
    grid = plan_grid(storage, make_request(CELL | {"processes": processes}))
    write_json(storage, manifest_key(RUN), {})
    (cell,) = grid.trials[0].cells(RUN, committed_encoder(add_commit(0)))

    def evaluated() -> tuple[CellRecord, bytes]:
        Evaluation(storage, journal, grid, ray_workers).run(follow=None)
        record = CellRecord.read(storage, cell)
        assert record is not None
        return record, storage.read(record.outcomes)

    undisturbed = evaluated()
    storage.delete(cell.key)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(evaluated)
        attempts = Killing(storage, training_name(cell)).watch(running.done)

    record, outcomes = running.result()
    assert len(attempts) == 2
    assert STEPS // 4 <= attempts[1].from_step < STEPS
    assert record.scores == undisturbed[0].scores
    assert outcomes == undisturbed[1]


def training_name(cell: Cell) -> str:
    """Of the run that fine-tuning is while it goes on."""
    return f"{cell.stem}.training".removeprefix("runs/")
