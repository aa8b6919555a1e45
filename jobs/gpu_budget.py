"""The GPU-hours that the dear cells of a run may take, over all evaluations of it.

Each evaluating process has an account of its own in the store, which it brings up to date as its
cells begin and end, and now and then in between. So hours count whatever became of the cell, or of
the process; and what others have spent is read in a few small files, whatever the number of cells.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean

from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.storage import Storage, read_json, write_json
from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.evaluate_request import evaluate_folder
from sigma_pipeline.jobs.planned_trials import PlannedTrial

_NOTE_INTERVAL_S = 30.0
"""What a process that is killed has spent since is not known."""


@dataclass(frozen=True)
class _Account:
    """What one process has spent."""

    gpu_hours: float = 0.0
    """On all its dear cells: finished, failed, or running."""
    finished: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """GPU-hours of each cell that succeeded, by its benchmark and dataset."""
    is_closed: bool = False
    """Nothing will change any more."""


@dataclass(frozen=True)
class _Running:
    kind: str
    limits: TaskLimits
    began_s: float

    def gpu_hours(self, now_s: float) -> float:
        """So far."""
        return self.limits.total_gpus * (now_s - self.began_s) / 3600

    @property
    def most_gpu_hours(self) -> float:
        """When its deadline ends it."""
        return self.limits.total_gpus * self.limits.deadline_s / 3600


class GpuBudget:
    """What the dear cells of a run have spent and may spend; for whoever begins them.

    A cell begins while what has been spent leaves something, what this process runs counted as long
    as such cells have lasted so far, or, before any has finished, as its deadline lets it last. So
    cells that begin together do not overrun together, and the last of them alone may do so.
    """

    def __init__(
        self,
        storage: Storage,
        run_name: str,
        hours: float | None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads nothing yet.

        Args:
            storage: where the run lies.
            run_name: the run.
            hours: ``evaluate.gpu_hours``; None: no limit, but what is spent is kept.
            now_s: the time.
        """
        self._storage = storage
        self._folder = f"{evaluate_folder(run_name)}/gpu_hours"
        self._key = f"{self._folder}/{new_attempt()}.json"
        self._hours = float("inf") if hours is None else hours
        self._now_s = now_s
        self._others: dict[str, _Account] = {}
        self._running: dict[str, _Running] = {}
        self._ended_hours = 0.0
        self._finished: dict[str, list[float]] = {}
        self._noted_at_s: float | None = None

    def has_room(self, planned: PlannedTrial) -> bool:
        """Whether nothing that runs here need be waited for to decide on a cell of ``planned``."""
        spent = self._spent_hours()
        is_open = spent < self._hours <= spent + self._reserved_hours()
        return not _is_counted(planned) or not is_open

    def refusal(self, planned: PlannedTrial) -> str | None:
        """Why a cell of ``planned`` is not to begin now; None if it may."""
        if self._hours == float("inf") or not _is_counted(planned):
            return None
        self._read_others()
        spent = self._spent_hours()
        if spent < self._hours:
            return None
        return (
            f"the budget evaluate.gpu_hours={self._hours:g} is used up ({spent:.2f} spent); raise "
            "evaluate.gpu_hours and evaluate again"
        )

    def begin(self, name: str, planned: PlannedTrial) -> None:
        """Notes that a cell begins."""
        if _is_counted(planned):
            kind = f"{planned.trial.benchmark}/{planned.trial.dataset}"
            self._running[name] = _Running(kind, planned.limits, self._now_s())
            self._write()

    def end(self, name: str, *, has_succeeded: bool) -> None:
        """Notes that a task has ended; nothing if that was none of these cells."""
        ended = self._running.pop(name, None)
        if ended is None:
            return
        hours = ended.gpu_hours(self._now_s())
        self._ended_hours += hours
        if has_succeeded:
            self._finished.setdefault(ended.kind, []).append(hours)
        self._write()

    def note(self) -> None:
        """Keeps, now and then, what has been spent so far; to be called often."""
        is_due = self._noted_at_s is None or self._now_s() - self._noted_at_s > _NOTE_INTERVAL_S
        if self._running and is_due:
            self._write()

    def close(self) -> None:
        """Ends the account; of what still ran, what it took until now is spent."""
        for name in list(self._running):
            self.end(name, has_succeeded=False)
        if self._noted_at_s is not None:
            self._write(is_closed=True)

    def _own_hours(self) -> float:
        now_s = self._now_s()
        return self._ended_hours + sum(one.gpu_hours(now_s) for one in self._running.values())

    def _spent_hours(self) -> float:
        return self._own_hours() + sum(one.gpu_hours for one in self._others.values())

    def _reserved_hours(self) -> float:
        """What the cells that run here are still expected to take."""
        now_s = self._now_s()
        return sum(
            max(0.0, self._expected_hours(one) - one.gpu_hours(now_s))
            for one in self._running.values()
        )

    def _expected_hours(self, running: _Running) -> float:
        known = list(self._finished.get(running.kind, ()))
        for account in self._others.values():
            known += account.finished.get(running.kind, ())
        return fmean(known) if known else running.most_gpu_hours

    def _read_others(self) -> None:
        for key in self._storage.list(self._folder):
            known = self._others.get(key)
            if key != self._key and not (known and known.is_closed):
                self._others[key] = _Account(**read_json(self._storage, key))

    def _write(self, *, is_closed: bool = False) -> None:
        self._noted_at_s = self._now_s()
        account = _Account(self._own_hours(), self._finished, is_closed)
        write_json(self._storage, self._key, asdict(account))


def _is_counted(planned: PlannedTrial) -> bool:
    return planned.cost == "dear" and planned.limits.gpus > 0
