"""Learning from few: one score over how many samples were learned from, with the spread of seeds.

Cells that differ in nothing but ``examples`` make one table; each seed draws other samples (0 draws
SEVERE's), so the spread is that of the draw and of training together.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.cells import Trial
from sigma_pipeline.jobs.planned_trials import PlannedTrial
from sigma_pipeline.jobs.scores import TableCell, TableRow


@dataclass(frozen=True)
class FewPoint:
    """One encoder at one size."""

    examples: int | None
    """That were asked for; None: all there are."""
    values: tuple[float, ...]
    """Of the score, by seed."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Of the seeds (sample standard deviation); None of a single one."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class FewRow:
    """One encoder."""

    encoder: str
    is_best: bool
    points: tuple[FewPoint, ...]
    """Of the sizes that are done, ascending."""

    def point(self, examples: int | None) -> FewPoint | None:
        """At one size; None while it is not done."""
        return next((point for point in self.points if point.examples == examples), None)


@dataclass(frozen=True)
class FewTable:
    """One score of one benchmark on one dataset."""

    benchmark: str
    """Its name, with a mark where several settings of it learn from few."""
    dataset: str
    score: str
    trial: Trial
    """Of the whole training split, whether or not that is evaluated."""
    sizes: tuple[int | None, ...]
    """Ascending; None, all there are, comes last."""
    rows: tuple[FewRow, ...]

    @property
    def name(self) -> str:
        """As a file name."""
        return f"{self.benchmark}-{self.dataset}"


def few_tables(trials: Sequence[PlannedTrial], rows: Sequence[TableRow]) -> list[FewTable]:
    """A table for each family of trials that learns from a part of its training split.

    Args:
        trials: of the last evaluation.
        rows: of the table of scores, with a cell of each of ``trials``.
    """
    families: dict[str, list[int]] = {}
    for number, planned in enumerate(trials):
        families.setdefault(_whole(planned.trial).fingerprint, []).append(number)
    few = [
        members
        for members in families.values()
        if _learns_from_few([trials[number] for number in members])
    ]
    named = Counter(_plain_name(trials[members[0]].trial) for members in few)
    tables = (
        _table(trials, members, rows, is_marked=named[_plain_name(trials[members[0]].trial)] > 1)
        for members in few
    )
    return [table for table in tables if table is not None]


def _learns_from_few(family: Sequence[PlannedTrial]) -> bool:
    """Whether it has anything to compare: several sizes, or several draws of one."""
    sizes = [planned.trial.examples for planned in family]
    draws = max(len(planned.seeds) for planned in family)
    return any(sizes) and (len(sizes) > 1 or draws > 1)


def _whole(trial: Trial) -> Trial:
    return replace(trial, examples=None)


def _plain_name(trial: Trial) -> tuple[str, str]:
    return trial.benchmark, trial.dataset


def _table(
    trials: Sequence[PlannedTrial],
    members: Sequence[int],
    rows: Sequence[TableRow],
    *,
    is_marked: bool,
) -> FewTable | None:
    """The table of the trials with the numbers ``members``; None before anything is done."""
    members = sorted(members, key=lambda number: _order(trials[number].trial.examples))
    whole = _whole(trials[members[0]].trial)
    score = next(_scores(rows, members), None)
    if score is None:
        return None
    own = [
        FewRow(row.encoder, row.is_best, points)
        for row in rows
        if (points := tuple(_points(trials, members, row.cells, score.name)))
    ]
    mark = f"-{whole.fingerprint[:6]}" if is_marked else ""
    return FewTable(
        benchmark=f"{whole.benchmark}{mark}",
        dataset=whole.dataset,
        score=score.name,
        trial=whole,
        sizes=tuple(dict.fromkeys(trials[number].trial.examples for number in members)),
        rows=tuple(own),
    )


def _scores(rows: Sequence[TableRow], members: Sequence[int]) -> Iterator[Score]:
    """The first score of each cell that is done: the one that a benchmark puts first."""
    for row in rows:
        for number in members:
            yield from row.cells[number].scores[:1]


def _points(
    trials: Sequence[PlannedTrial],
    members: Sequence[int],
    cells: Sequence[TableCell],
    name: str,
) -> Iterator[FewPoint]:
    for number in members:
        values = tuple(
            score.value
            for scores in cells[number].by_seed
            for score in scores
            if score.name == name
        )
        if values:
            yield FewPoint(trials[number].trial.examples, values)


def _order(examples: int | None) -> float:
    return float("inf") if examples is None else examples
