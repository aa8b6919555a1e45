"""Who holds up the others, told from the signs of life that the ranks give; see ``watchdog``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sigma_pipeline.jobs.node_names import shown_ranks

PHASES = ("start", "commit", "paused", "outage", "data", "step", "failed", "end")
"""What a rank does between two steps, in this order, and how it leaves it: with an error or not.

``paused``: it waits, with all others, for evaluation on the same GPU. ``outage``: it knows why
there is no data and when to give up; nobody else is to blame meanwhile."""
_LEFT = ("failed", "end")


@dataclass(frozen=True)
class Beat:
    """A sign of life."""

    count: int
    """How many there have been. Two nodes' clocks are not compared, only whether this goes on."""
    phase: str
    step: int
    """Steps taken so far."""
    lasted_s: float
    """Time in this phase."""


@dataclass(frozen=True)
class Blame:
    """Who holds up the others."""

    reason: str
    silent: tuple[int, ...] = ()
    """Ranks whose whole process gives no sign of life."""


def judge(first: Mapping[int, Beat], second: Mapping[int, Beat], hosts: Sequence[str]) -> Blame:
    """Who holds up the others.

    Args:
        first: newest sign of life by rank, at one look.
        second: at a look some intervals later.
        hosts: of every rank.
    """
    names = dict(enumerate(hosts))
    silent = tuple(
        rank
        for rank in names
        if rank not in second
        or (rank in first and first[rank] == second[rank] and second[rank].phase not in _LEFT)
    )
    if silent:
        last = [second[rank] for rank in silent if rank in second]
        where = f" (last '{last[0].phase}' after step {last[0].step})" if last else ""
        return Blame(f"no sign of life from {shown_ranks(silent, names)}{where}", silent)
    if failed := [rank for rank, beat in second.items() if beat.phase == "failed"]:
        step = second[failed[0]].step
        return Blame(
            f"{shown_ranks(failed, names)} left with an error after step {step}, see the log there"
        )
    behind = min(map(_progress, second.values()))
    ranks = [rank for rank, beat in second.items() if _progress(beat) == behind]
    beat = second[ranks[0]]
    if len(ranks) == len(hosts) > 1:
        return Blame(f"every rank waits at {_shown(beat)}: the network between them may be down")
    return Blame(f"{shown_ranks(ranks, names)} furthest behind, at {_shown(beat)}")


def _progress(beat: Beat) -> tuple[int, int]:
    return beat.step, PHASES.index(beat.phase)


def _shown(beat: Beat) -> str:
    return f"'{beat.phase}' after step {beat.step} for {beat.lasted_s:.0f} s"
