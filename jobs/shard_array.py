"""One task of a SLURM array that shards a dataset: its own part, then what others leave.

Tasks know nothing of each other but the receipts in the store. Each begins with every n-th shard
and then takes shards that are still missing, drawn at random so that helpers seldom choose alike:
so a slow task is helped, a dead one made up for, and what two make at once counts once.
"""

import logging
import random
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sigma_pipeline.data_prep.config import ShardConfig
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.logs import configure_logging
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.code_copy import package_folder
from sigma_pipeline.jobs.shard import Unit, build_some, finish_dataset, missing_units
from sigma_pipeline.jobs.shard_plan import DatasetPlan
from sigma_pipeline.jobs.stored_plan import require_same_code

log = logging.getLogger(__name__)

_UNITS_PER_WORKER = 16
"""In a round: between rounds, what others have made meanwhile is looked up."""
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True)
class ArrayTask:
    """What one task of the array is given."""

    plan: DatasetPlan
    """Its units lie in files that all nodes read."""
    root_uri: str
    shard: ShardConfig
    workers: int
    number: int
    count: int
    """Of tasks in the array."""
    folder: Path
    """The array's own, on all nodes."""
    run_name: str | None = None
    """The run whose journal gets the numbers; None where the launcher waits, and writes them."""

    def __call__(self) -> None:
        """Makes shards until none is missing; the first task to find that puts the manifests.

        Raises:
            StageError: the node has other code than the launcher, a source changed meanwhile, or
                too many inputs were rejected.
        """
        configure_logging()
        log.info("Sharding with the code in %s", package_folder())
        require_same_code(self.plan)
        storage, attempt = open_storage(self.root_uri), new_attempt()
        # The folder may be common to several nodes, and locks in it not.
        here = replace(self.plan, scratch_dir=self.plan.scratch_dir / socket.gethostname())
        for units in self._rounds(storage):
            build_some(here, units, storage=storage, workers=self.workers, attempt=attempt)
        if _is_mine(self.folder / "finished", self.number):
            self._finish(storage, attempt)

    def _finish(self, storage: Storage, attempt: str) -> None:
        journal = Journal(storage, self.run_name, attempt, "shard") if self.run_name else None
        try:
            finish_dataset(
                self.plan, storage=storage, shard=self.shard, journal=journal, attempt=attempt
            )
        finally:
            if journal is not None:
                journal.close()

    def _rounds(self, storage: Storage) -> Iterator[Sequence[Unit]]:
        """Shards to make next: of this task's part first, then any that are missing."""
        size = self.workers * _UNITS_PER_WORKER
        own = [
            unit
            for unit in missing_units(self.plan, storage)
            if unit.place % self.count == self.number
        ]
        log.info("%d shards are this task's own", len(own))
        start_s = time.monotonic()
        for first in range(0, len(own), size):
            yield own[first : first + size]
        if own and missing_units(self.plan, storage):
            # Most of what others have in hand now is done by the time that one shard takes.
            shard_s = (time.monotonic() - start_s) * self.workers / len(own)
            time.sleep(min(shard_s, _LONGEST_PAUSE_S))
        draw = random.Random(self.number)  # noqa: S311 - no secret
        while missing := missing_units(self.plan, storage):
            log.info("%d shards are still missing; this task helps", len(missing))
            yield draw.sample(missing, min(size, len(missing)))


def _is_mine(path: Path, number: int) -> bool:
    """Whether this task was here first, in this life of it or an earlier one.

    It only saves work: all tasks could do what follows.
    """
    try:
        with path.open("x", encoding="ascii") as file:
            file.write(str(number))
    except FileExistsError:
        return path.read_text(encoding="ascii") == str(number)
    return True
