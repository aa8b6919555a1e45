"""SEVERE's table of one run: what its cells say of each column, and what stands in for one.

A cell fills its column when its data is the column's own; else it is a stand-in, and is shown
apart. Which it is follows from the manifests of what was scored, whatever a recipe calls it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.manifest import read_manifest
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.cells import Trial
from sigma_pipeline.jobs.planned_trials import PlannedTrial, read_absent, read_grid
from sigma_pipeline.jobs.scores import TableCell, TableRow
from sigma_pipeline.jobs.severe_columns import (
    COLUMNS,
    EIGHT,
    LEAST_SHARE,
    Column,
    SevereColumn,
    Values,
    severe_mean,
)

NO_CELL = "no cell of the recipe fills it"
NOT_YET = "not evaluated yet"
"""Why a column is absent."""


@dataclass(frozen=True, kw_only=True)
class SevereCell:
    """What is known of one encoder in one column."""

    state: Literal["filled", "stand-in", "absent"]
    dataset: str = ""
    shown: float | None = None
    """As the table has it: percent, or the error of UCF-RC; None while absent."""
    low: float | None = None
    """Of the 95 % interval over test samples, as ``shown``."""
    high: float | None = None
    seeds: int = 0
    reason: str = ""
    """Why it is absent or a stand-in; else what to know of the number."""


@dataclass(frozen=True)
class SevereRow:
    """One encoder."""

    encoder: str
    """``untrained``, ``step 1000``."""
    step: int
    is_best: bool
    cells: Mapping[SevereColumn, SevereCell]
    """Of every column."""

    @cached_property
    def values(self) -> Values:
        """Numbers of the columns that are filled."""
        return {
            name: cell.shown
            for name, cell in self.cells.items()
            if cell.state == "filled" and cell.shown is not None
        }

    @property
    def stand_ins(self) -> dict[SevereColumn, SevereCell]:
        """What was measured on other data."""
        return {name: cell for name, cell in self.cells.items() if cell.state == "stand-in"}

    @property
    def mean(self) -> float | None:
        """Of all eight columns; None while any is absent."""
        return severe_mean(self.values)


@dataclass(frozen=True)
class SevereTable:
    """The rows of a run, by step."""

    run_name: str
    rows: tuple[SevereRow, ...]
    absent: Mapping[SevereColumn, str]
    """Why columns are absent whatever the encoder."""

    @property
    def chosen(self) -> SevereRow | None:
        """The row that stands for the run: with most columns, of those the best commit, the newest.

        None where no column is filled.
        """
        rows = [row for row in self.rows if row.values]
        return max(
            rows,
            key=lambda row: (len(EIGHT.keys() & row.values.keys()), row.is_best, row.step),
            default=None,
        )


def severe_table(storage: Storage, run_name: str, scored: Sequence[TableRow]) -> SevereTable | None:
    """The table of the last evaluation of a run; None where no cell of it fills a column.

    Args:
        storage: where the run and its datasets lie.
        run_name: the run.
        scored: rows of its table of scores.
    """
    trials, refused = read_grid(storage, run_name), read_absent(storage, run_name)
    asked = _asked(trials)
    if not asked and not refused:
        return None
    absent = {name: refused.get(name, NO_CELL) for name in COLUMNS if name not in asked}
    reader = _ColumnReader(storage, trials, asked)
    rows = [_row(row, reader, absent) for row in scored]
    return SevereTable(run_name, tuple(filter(_has_any, rows)), absent)


def _asked(trials: Sequence[PlannedTrial]) -> dict[SevereColumn, int]:
    """Number of the trial of each column: of several sizes the column's own, if it is there."""
    asked: dict[SevereColumn, int] = {}
    for number, planned in enumerate(trials):
        name = planned.column
        if name is not None and (
            name not in asked or planned.trial.examples == COLUMNS[name].examples
        ):
            asked[name] = number
    return asked


def _has_any(row: SevereRow) -> bool:
    return any(cell.shown is not None for cell in row.cells.values())


def _row(row: TableRow, reader: "_ColumnReader", absent: Mapping[SevereColumn, str]) -> SevereRow:
    cells = {
        name: SevereCell(state="absent", reason=absent[name])
        if name in absent
        else reader.cell(name, row.cells)
        for name in COLUMNS
    }
    return SevereRow(row.encoder, row.step, row.is_best, cells)


class _ColumnReader:
    """Reads columns off rows of the table of scores; looks at each dataset once."""

    def __init__(
        self,
        storage: Storage,
        trials: Sequence[PlannedTrial],
        asked: Mapping[SevereColumn, int],
    ) -> None:
        self._numbers = asked
        self._flaws = {
            name: "; ".join(_differences(storage, COLUMNS[name], trials[number].trial))
            for name, number in asked.items()
        }
        self._notes = {
            name: tuple(_notes(storage, COLUMNS[name], trials[number]))
            for name, number in asked.items()
        }

    def cell(self, name: SevereColumn, cells: Sequence[TableCell]) -> SevereCell:
        """What the cells of an encoder, one of each trial, say of the column ``name``."""
        column, found = COLUMNS[name], cells[self._numbers[name]]
        if found.state != "done":
            why = found.reason or NOT_YET
            return SevereCell(state="absent", dataset=found.dataset, reason=why)
        score = next((one for one in found.scores if one.name == column.score), None)
        if score is None:
            why = f"{column.benchmark} gave no {column.score}"
            return SevereCell(state="absent", dataset=found.dataset, reason=why)
        flaws = self._flaws[name]
        notes = (*_fewer_tested(column, score), *self._notes[name])
        return _filled(column, score, found, flaws=flaws, notes="; ".join(notes))


def _filled(
    column: Column, score: Score, found: TableCell, *, flaws: str, notes: str
) -> SevereCell:
    return SevereCell(
        state="stand-in" if flaws else "filled",
        dataset=found.dataset,
        shown=column.shown(score.value),
        low=column.shown(score.low),
        high=column.shown(score.high),
        seeds=found.seeds,
        reason=flaws or notes,
    )


def _fewer_tested(column: Column, score: Score) -> Iterator[str]:
    if score.samples < column.test and not column.is_extra:
        yield f"{score.samples} of {column.test} test samples"


def _notes(storage: Storage, column: Column, planned: PlannedTrial) -> Iterator[str]:
    """What to know of a number that fills the column: of its training samples, and settings."""
    train = planned.trial.train
    if train is not None and (manifest := read_manifest(storage, train)) is not None:
        samples = int(manifest["samples"])
        if samples < column.train:
            yield f"{samples} of {column.train} training samples"
    yield from planned.deviations


def _differences(storage: Storage, column: Column, trial: Trial) -> Iterator[str]:
    """In what a trial is not what the column measures; nothing where it is."""
    if trial.examples != column.examples:
        yield f"learns from {_examples(trial.examples)}, not from {_examples(column.examples)}"
    splits = [(trial.test, column.test)]
    if trial.train is not None:
        splits.insert(0, (trial.train, column.train))
    for ref, official in splits:
        if difference := _split_difference(storage, column, ref, official):
            yield difference
            return  # of the other split it is the same


def _examples(number: int | None) -> str:
    return "all training samples" if number is None else f"{number} examples"


def _split_difference(
    storage: Storage, column: Column, ref: DatasetRef, official: int
) -> str | None:
    """In what a split is not the column's own: by its classes and the number of its samples."""
    manifest = read_manifest(storage, ref)
    if manifest is None:
        return f"{ref.name}/{ref.split} is no longer in the store: nobody can tell what it was"
    samples, classes = int(manifest["samples"]), len(manifest["classes"])
    if classes == column.classes and LEAST_SHARE * official <= samples <= official:
        return None
    return (
        f"{ref.name}/{ref.split} has {samples} samples of {classes} classes, where "
        f"{column.data} has {official} of {column.classes}"
    )
