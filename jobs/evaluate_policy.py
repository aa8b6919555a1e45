"""Which commits each benchmark follows: the rules of a recipe.

A cheap benchmark takes every commit as it comes, or each n-th one and the last. A dear one takes
the last commit alone, or each n-th one and the last. Either may wait for the end of training
instead, and take the best commits by a score of another cell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.jobs.benchmarks.benchmark import Cost
from sigma_pipeline.jobs.best_by import BestBy
from sigma_pipeline.jobs.planned_trials import PlannedTrial


class Wish(Protocol):
    """What a recipe says of one benchmark's commits."""

    @property
    def every(self) -> int | None:
        """Each n-th one, and the last."""
        ...

    @property
    def best(self) -> int | None:
        """So many of the best."""
        ...


def cadence(wish: Wish, cost: Cost) -> int | None:
    """Each how many commits one is taken as they come; None where all waits for the end."""
    if wish.best is not None:
        return None
    return wish.every or (1 if cost == "cheap" else None)


def chosen_steps(
    steps: Sequence[int],
    planned: PlannedTrial,
    *,
    numbers: Mapping[int, int],
    is_final: bool,
) -> list[int]:
    """Steps of the commits that a trial is made on, as far as that follows from no score.

    Args:
        steps: of all commits that there are, ascending.
        planned: the trial.
        numbers: of each of them (see ``commit_numbers``).
        is_final: whether there will be no more.
    """
    if planned.best is not None:
        return []
    every = cadence(planned, planned.cost)
    return [
        step
        for step in steps
        if (every is not None and numbers[step] % every == 0) or (is_final and step == steps[-1])
    ]


def follows_supervised(planned: PlannedTrial) -> bool:
    """Whether a trial is made on the supervised reference too; hours are not spent on that."""
    return planned.cost == "cheap" and planned.best is None


def describe_choice(wish: Wish, cost: Cost, best_by: str | None) -> str:
    """Which commits a benchmark takes, in words."""
    if wish.best is not None:
        many = "the best commit" if wish.best == 1 else f"the {wish.best} best commits"
        return f"{many} by {best_by}"
    every = cadence(wish, cost)
    if every is None:
        return "the last commit"
    return "every commit" if every == 1 else f"one of {every} commits, and the last"


def ranking_trial(trials: Sequence[PlannedTrial], by: BestBy) -> PlannedTrial:
    """The trial whose score ranks the commits: by its label, else by its benchmark's name.

    The second is for a trial whose plain label an earlier recipe of the run has taken.

    Raises:
        ConfigError: there is none, or it cannot be told which.
    """
    free = [one for one in trials if one.best is None and one.trial.dataset == by.dataset]
    labelled = [one for one in free if one.label == by.label]
    named = [one for one in free if one.trial.benchmark == by.label]
    found = labelled[:1] or named
    if len(found) != 1:
        others = named or [one for one in trials if one.best is None]
        legal = ", ".join(f"{one.label}/{one.trial.dataset}/<score>" for one in others)
        raise ConfigError(
            f"evaluate.best_by='{by}' means {'several cells' if found else 'no cell'}; set it to "
            f"one of: {legal}"
        )
    return found[0]


def skip_unranked(trials: Sequence[PlannedTrial], best_by: str | None) -> tuple[PlannedTrial, ...]:
    """The trials, with those skipped that wait for a ranking that their data cannot give.

    Raises:
        ConfigError: ``best_by`` does not tell one trial from the others.
    """
    obstacle = None
    if best_by is not None:
        reason = ranking_trial(trials, BestBy.parse(best_by)).skipped
        if reason is not None:
            obstacle = (
                f"evaluate.best_by={best_by} ranks no commits, as its cell is skipped ({reason}); "
                "set it to a score of another cell"
            )
    return tuple(
        replace(one, skipped=one.skipped or obstacle) if one.best is not None else one
        for one in trials
    )
