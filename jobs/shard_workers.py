"""Shards made by worker processes, and what happens when a video brings one down.

A decoder may crash, take all memory, or run for ever; the kernel ends such a process, see
``shard_limits``. A unit over which a worker died, or met what may pass, is put off to the end of
the queue. There its items are prepared apart, one at a time, which shows the culprit.
"""

import logging
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.sample import Sample
from sigma_pipeline.data_prep.verdicts import Rejected
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.shard_apart import Apart
from sigma_pipeline.jobs.shard_limits import prepare_limited
from sigma_pipeline.jobs.shard_link import Link, report
from sigma_pipeline.jobs.shard_progress import Progress
from sigma_pipeline.jobs.shard_unit import UnitTask, build_unit

log = logging.getLogger(__name__)

_POLL_S = 1.0
_START_TRIES = 3
"""A process may be killed from outside before it begins."""


class Postponed(Exception):  # noqa: N818 - an arrangement, not a fault
    """A unit is not done: what went wrong with an item may not go wrong another time."""


def build_units(
    tasks: Sequence[UnitTask], *, workers: int, scratch_dir: Path, progress: Progress
) -> None:
    """Makes the shards of ``tasks`` in ``workers`` processes.

    Args:
        tasks: in the order in which they are begun.
        workers: processes.
        scratch_dir: an existing folder that nothing else uses, for unfinished files.
        progress: told of each item that is done.

    Raises:
        StageError: processes do not start, or a source changed meanwhile.
    """
    waiting = list(reversed(tasks))
    postponed: list[UnitTask] = []
    failed_starts = 0
    with Link(scratch_dir) as link:
        while waiting:
            with link.pool(min(workers, len(waiting))) as pool:
                failed_starts = 0 if _is_started(pool) else failed_starts + 1
                if not failed_starts:
                    postponed += _build_together(pool, workers, waiting, link, progress)
            if failed_starts == _START_TRIES:
                raise StageError(
                    "worker processes of the shard stage end before they begin; the reason is in "
                    "the output above"
                )
        if postponed:
            _build_apart(postponed, workers, link, progress)


def _is_started(pool: ProcessPoolExecutor) -> bool:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        return False
    return True


def _build_together(
    pool: ProcessPoolExecutor,
    workers: int,
    waiting: list[UnitTask],
    link: Link,
    progress: Progress,
) -> list[UnitTask]:
    """Does tasks from the end of ``waiting``, until a worker dies; returns those put off."""
    running: dict[Future[None], UnitTask] = {}
    postponed: list[UnitTask] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                future = pool.submit(_build, waiting[-1])  # or it raises, and nothing is lost
                running[future] = waiting.pop()
            for future in wait(running, _POLL_S, FIRST_COMPLETED).done:
                try:
                    future.result()
                except Postponed as reason:
                    postponed.append(running[future])
                    _log_postponed(running[future], str(reason))
                del running[future]
            link.read_reports(progress)
    except BrokenProcessPool:
        for task in running.values():
            _log_postponed(task, "a worker died")
        postponed += running.values()
    return postponed


def _log_postponed(task: UnitTask, reason: str) -> None:
    log.warning(
        "shard %d of %s is put off to the end, where its items are prepared one by one: %s",
        task.number,
        task.ref.prefix,
        reason,
    )


def _build(task: UnitTask) -> None:
    """Runs in a worker."""

    def prepare_once(item: Item) -> Sample:
        try:
            return prepare_limited(item, task.settings)
        except MemoryError as error:
            raise Postponed(f"{item.name}: memory ran out") from error
        except Rejected as verdict:
            if verdict.is_retryable:
                raise Postponed(f"{item.name}: {verdict.detail}") from verdict
            raise

    build_unit(task, prepare_once, report, _scratch_dir())


def _scratch_dir() -> Path:
    return Path(tempfile.gettempdir())  # set by the link


def _build_apart(tasks: Sequence[UnitTask], workers: int, link: Link, progress: Progress) -> None:
    """Makes the shards of ``tasks``, each item in a process that it may bring down."""

    def build(task: UnitTask) -> None:
        with Apart(link.ends) as apart:
            prepare = apart.prepare
            scratch_dir = Path(link.ends.scratch_dir)
            build_unit(task, lambda item: prepare(item, task.settings), progress.add, scratch_dir)

    with ThreadPoolExecutor(workers) as threads:
        try:
            for future in as_completed([threads.submit(build, task) for task in tasks]):
                future.result()
                progress.log_if_due()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            link.end_workers()
            raise
