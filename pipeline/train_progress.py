"""How fast training goes and how long it will take, from the numbers it wrote last."""

from collections.abc import Sequence
from dataclasses import dataclass

from sigma_pipeline.infra.journal import Entry

_WINDOW_MS = 10 * 60 * 1000
_LOSS = "train/loss"
_SLOWEST_RANK = "train/slowest_rank"
_SLOWEST_LAG = "train/slowest_rank_lag"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stood when it last wrote numbers."""

    step: int
    time_ms: int
    """When that was, in milliseconds since 1970."""
    loss: float | None
    step_s: float | None
    """Of the last minutes, commits included; None after too few numbers."""
    slowest_rank: int | None
    """None where there is only one."""
    slowest_lag: float | None
    """The time it needs, over the mean of all ranks."""


def read_progress(entries: Sequence[Entry]) -> Progress | None:
    """The progress that the numbers of one attempt show; None if there are none of training.

    Args:
        entries: with numbers, in the order they were written.
    """
    found = [entry for entry in entries if _LOSS in entry.fields["values"]]
    if not found:
        return None
    last = found[-1]
    values = last.fields["values"]
    slowest = values.get(_SLOWEST_RANK)
    return Progress(
        step=last.fields["step"],
        time_ms=last.time_ms,
        loss=values[_LOSS],
        step_s=_step_s(found),
        slowest_rank=None if slowest is None else int(slowest),
        slowest_lag=values.get(_SLOWEST_LAG),
    )


def time_of_step(entries: Sequence[Entry], step: int) -> int | None:
    """When ``step`` was taken, in milliseconds since 1970: that of the last numbers up to there.

    None where the entries begin later.
    """
    times = [entry.time_ms for entry in entries if entry.fields["step"] <= step]
    return times[-1] if times else None


def _step_s(entries: Sequence[Entry]) -> float | None:
    last = entries[-1]
    recent = [entry for entry in entries if last.time_ms - entry.time_ms <= _WINDOW_MS]
    num_steps: int = last.fields["step"] - recent[0].fields["step"]
    if num_steps <= 0:
        return None
    return (last.time_ms - recent[0].time_ms) / 1000 / num_steps
