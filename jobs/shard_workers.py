"""Shards made by worker processes, and what happens when a video brings one down.

A decoder may crash, or run for ever. Each video has a limit of processor time, past which the
kernel ends the process (never of wall time, which depends on what else the machine does). When a
worker dies, its shard is done once more with each video in a process of its own, which shows the
culprit.
"""

import logging
import os
import resource
import tempfile
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from sigma_pipeline.data_prep.catalogue import Video
from sigma_pipeline.data_prep.decode import Rejected
from sigma_pipeline.data_prep.samples import Sample, prepare
from sigma_pipeline.data_prep.units import source_bytes
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.shard_link import Link, report
from sigma_pipeline.jobs.shard_progress import Progress
from sigma_pipeline.jobs.shard_unit import UnitTask, build_unit

log = logging.getLogger(__name__)

_POLL_S = 1.0
_TRIES_APART = 2
"""A process may also be killed from outside, but hardly twice at the same video."""
_BYTES_PER_CPU_S = 50_000
"""Source bytes that earn a video one second more; decoding them takes some hundredths of it."""


def build_units(
    tasks: Sequence[UnitTask], *, workers: int, scratch_dir: Path, progress: Progress
) -> None:
    """Makes the shards of ``tasks`` in ``workers`` processes.

    Args:
        tasks: in the order in which they are begun.
        workers: processes.
        scratch_dir: an existing folder that nothing else uses, for unfinished files.
        progress: told of each video that is done.

    Raises:
        StageError: processes do not start, or a source changed meanwhile.
    """
    waiting = list(reversed(tasks))
    with Link(scratch_dir) as link:
        while waiting:
            for task in _build_together(waiting, workers, link, progress):
                log.warning(
                    "a worker died at shard %d of %s; its videos are repeated one by one",
                    task.number,
                    task.ref.prefix,
                )
                prepare_apart = partial(_prepare_apart, link, task)
                build_unit(task, prepare_apart, progress.add, scratch_dir)
                progress.log_if_due()


def _build_together(
    waiting: list[UnitTask], workers: int, link: Link, progress: Progress
) -> list[UnitTask]:
    """Does tasks from the end of ``waiting``; returns those under way when a worker died."""
    running: dict[Future[None], UnitTask] = {}
    with link.pool(min(workers, len(waiting))) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    future = pool.submit(_build, waiting[-1])  # or it raises, and nothing is lost
                    running[future] = waiting.pop()
                for future in wait(running, _POLL_S, FIRST_COMPLETED).done:
                    future.result()
                    del running[future]
                link.read_reports(progress)
        except BrokenProcessPool:
            return list(running.values())
    return []


def _prepare_apart(link: Link, task: UnitTask, video: Video) -> Sample:
    """``prepare`` in a process of its own, which the video may bring down.

    Raises:
        Rejected: the verdict of ``prepare``, or that the process died.
        StageError: the process does not even start.
    """
    for _ in range(_TRIES_APART):
        with link.pool(1) as pool:
            started, done = pool.submit(os.getpid), pool.submit(_prepare_limited, task, video)
            errors = started.exception(), done.exception()
        if errors[0]:
            raise StageError(
                "worker processes of the shard stage end before they begin; the reason is in the "
                "output above"
            ) from errors[0]
        if not isinstance(errors[1], BrokenProcessPool):
            return done.result()
    raise Rejected("crashed_decoder", "decoding it crashed or took too long, and ended the process")


def _build(task: UnitTask) -> None:
    """Runs in a worker."""
    scratch_dir = Path(tempfile.gettempdir())  # set by the link
    build_unit(task, partial(_prepare_limited, task), report, scratch_dir)


def _prepare_limited(task: UnitTask, video: Video) -> Sample:
    """``prepare``, during which the kernel ends this process when it has used too much time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit_s = int(used.ru_utime + used.ru_stime) + 1 + task.cpu_limit_s
    limit_s += source_bytes(video) // _BYTES_PER_CPU_S
    before, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:
        limit_s = min(limit_s, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, hard))
    try:
        return prepare(video, task.settings)
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (before, hard))
