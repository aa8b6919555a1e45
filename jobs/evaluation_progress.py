"""How far an evaluation is, and how long the rest of it takes: counts of cells, and their times.

A cell to come is taken to last as long as those of its benchmark and dataset that are done, and the
slots to be kept busy; features, which the cells share, are not counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.time_ledger import duration


@dataclass(frozen=True, kw_only=True)
class TrialProgress:
    """One trial on all encoders so far: how many of them are in which state."""

    label: str
    dataset: str
    done: int
    failed: int
    skipped: int
    missing: int
    cell_s: float | None
    """Mean over the encoders that are done, of all seeds together; None before the first."""
    limits: TaskLimits
    is_impossible: bool = False
    """The data cannot carry it."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.label} on {self.dataset}"


@dataclass(frozen=True)
class _TimeLeft:
    """Until all cells that are missing are done."""

    seconds: float
    """Of the trials whose times are known."""
    unknown: tuple[str, ...]
    """Names of those of which nothing is done yet, and something is missing."""

    def __str__(self) -> str:
        """For people; empty when nothing is missing."""
        without = f"{', '.join(self.unknown)} not counted: none is done yet"
        if not self.seconds:
            return f"time left is not known, {without}" if self.unknown else ""
        about = f"about {duration(self.seconds)} left"
        return f"{about}, {without}" if self.unknown else about


def _time_left(trials: Sequence[TrialProgress], launch: EvaluateLaunchConfig) -> _TimeLeft:
    """The time that is left, by processors or GPUs, whichever there are fewer of.

    Args:
        trials: all of the grid.
        launch: what there is of either. GPUs of which it does not speak are taken to be enough.
    """
    known = [(one, one.missing * one.cell_s) for one in trials if one.cell_s is not None]
    by_cpus_s = sum(left_s * one.limits.total_cpus for one, left_s in known)
    by_gpus_s = sum(left_s * one.limits.total_gpus for one, left_s in known)
    longest_s = max((one.cell_s or 0.0 for one, left_s in known if left_s), default=0.0)
    seconds = max(longest_s, by_cpus_s / (launch.nodes * launch.cpus))
    if launch.gpus:
        seconds = max(seconds, by_gpus_s / (launch.nodes * launch.gpus))
    unknown = [one.name for one in trials if one.cell_s is None and one.missing]
    return _TimeLeft(seconds, tuple(unknown))


def count_missing(trials: Sequence[TrialProgress]) -> int:
    """Cells that are still to be made, over all seeds of an encoder one."""
    return sum(one.missing for one in trials)


def describe_grid(trials: Sequence[TrialProgress], launch: EvaluateLaunchConfig) -> Iterator[str]:
    """A line per benchmark and dataset, and one on the time that is left."""
    for one in trials:
        if one.is_impossible:
            yield f"{one.name}: skipped"
            continue
        skipped = f", {one.skipped} skipped" if one.skipped else ""
        yield f"{one.name}: {one.done} done, {one.failed} failed, {one.missing} missing{skipped}"
    if left := str(_time_left(trials, launch)):
        yield left


def describe_counts(trials: Sequence[TrialProgress], launch: EvaluateLaunchConfig) -> str:
    """All of it in one line."""
    done, failed = (sum(getattr(one, name) for one in trials) for name in ("done", "failed"))
    left = str(_time_left(trials, launch))
    counts = f"{done} cells done, {failed} failed, {count_missing(trials)} missing"
    return f"{counts}; {left}" if left else counts
