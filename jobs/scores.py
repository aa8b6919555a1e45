"""Scores of a run, read from its cells: as numbers for the journal and as a table for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.commits import committed_steps, list_commits
from sigma_pipeline.jobs.encoders import SUPERVISED, EncoderSource, committed_encoder
from sigma_pipeline.jobs.planned_trials import PlannedTrial, chosen_commits, read_grid
from sigma_pipeline.jobs.supervised_request import (
    SupervisedRequest,
    current_supervised,
    find_supervised,
)


@dataclass(frozen=True)
class TableCell:
    """One trial on one encoder, over its seeds."""

    label: str
    """The benchmark's name, with a mark if a run has several settings of it."""
    dataset: str
    state: Literal["done", "missing", "skipped", "failed"]
    scores: tuple[Score, ...] = ()
    """Means over the seeds, once all are done. So is the interval: it speaks of the test samples,
    not of the seeds."""
    seeds: int = 0
    reason: str = ""
    """Why it was skipped or how it failed; remarks on the scores when done."""


@dataclass(frozen=True)
class TableRow:
    """All trials on one encoder."""

    encoder: str
    """``untrained``, ``step 1000``, or ``supervised``."""
    step: int
    cells: tuple[TableCell, ...]
    """Of every trial, in the order of the recipe."""


def score_table(storage: Storage, run_name: str) -> list[TableRow]:
    """A row per evaluated commit, by step, then the supervised reference.

    Commits that no trial has been made on are left out, unless all trials are skipped anyway.
    """
    trials = read_grid(storage, run_name)
    sources = [committed_encoder(commit) for commit in list_commits(storage, run_name)]
    rows = [_row(storage, run_name, source, trials) for source in sources]
    if (request := current_supervised(storage, run_name)) is not None:
        rows.append(_supervised_row(storage, request, trials))
    is_empty = {"missing", "skipped"}
    return [
        row
        for row in rows
        if not is_empty.issuperset(states := {cell.state for cell in row.cells})
        or states == {"skipped"}
    ]


def evaluated_encoders(
    storage: Storage, run_name: str, *, is_trained: bool
) -> list[tuple[str, str, int]]:
    """Label and dataset of each trial, and on how many encoders that exist it is to be made."""
    steps = committed_steps(storage, run_name)
    num_references = int(current_supervised(storage, run_name) is not None)
    return [
        (
            one.label,
            one.trial.dataset,
            len(chosen_commits(steps, one.every, is_final=is_trained)) + num_references,
        )
        for one in read_grid(storage, run_name)
    ]


def mean_scores(records: Sequence[CellRecord]) -> tuple[Score, ...]:
    """Scores of one trial on one encoder, averaged over its seeds."""
    return tuple(
        Score(
            name=scores[0].name,
            value=fmean(score.value for score in scores),
            unit=scores[0].unit,
            higher_is_better=scores[0].higher_is_better,
            low=fmean(score.low for score in scores),
            high=fmean(score.high for score in scores),
            samples=scores[0].samples,
        )
        for scores in zip(*(record.scores for record in records), strict=True)
    )


def finished_records(
    storage: Storage, run_name: str, source: EncoderSource, planned: PlannedTrial
) -> list[CellRecord]:
    """Records of all seeds of a trial on one encoder; none while any is missing."""
    records = []
    for cell in planned.cells(run_name, source):
        record = CellRecord.read(storage, cell)
        if record is None:
            return []
        records.append(record)
    return records


def metric_values(
    source: EncoderSource, planned: PlannedTrial, scores: Sequence[Score]
) -> dict[str, float]:
    """Scores under their names in the journal, ``evaluate/<benchmark>/<dataset>/<score>``.

    The supervised reference has names of its own: it is no point of the run's curves.
    """
    parts = ["evaluate", planned.label, planned.trial.dataset]
    if source.name == SUPERVISED:
        parts.insert(1, SUPERVISED)
    return {"/".join([*parts, score.name]): score.value for score in scores}


def _row(
    storage: Storage, run_name: str, source: EncoderSource, trials: Sequence[PlannedTrial]
) -> TableRow:
    name = source.name
    if name != SUPERVISED:
        name = f"step {source.step}" if source.step else "untrained"
    cells = tuple(_table_cell(storage, run_name, source, planned) for planned in trials)
    return TableRow(name, source.step, cells)


def _supervised_row(
    storage: Storage, request: SupervisedRequest, trials: Sequence[PlannedTrial]
) -> TableRow:
    source = find_supervised(storage, request)
    if source is not None:
        return _row(storage, request.run_name, source, trials)
    error = _failure(storage, request.failure_key)
    cells = (
        TableCell(one.label, one.trial.dataset, "failed" if error else "missing", reason=error)
        for one in trials
    )
    return TableRow(SUPERVISED, 0, tuple(cells))


def _table_cell(
    storage: Storage, run_name: str, source: EncoderSource, planned: PlannedTrial
) -> TableCell:
    label, dataset = planned.label, planned.trial.dataset
    if planned.skipped is not None:
        return TableCell(label, dataset, "skipped", reason=planned.skipped)
    records = finished_records(storage, run_name, source, planned)
    if records:
        notes = "; ".join(dict.fromkeys(note for record in records for note in record.notes))
        return TableCell(
            label, dataset, "done", mean_scores(records), seeds=len(records), reason=notes
        )
    for cell in planned.cells(run_name, source):
        if error := _failure(storage, cell.failure_key):
            return TableCell(label, dataset, "failed", reason=error)
    return TableCell(label, dataset, "missing")


def _failure(storage: Storage, key: str) -> str:
    """What was recorded at ``key`` when a task failed; empty if it did not."""
    try:
        return str(read_json(storage, key)["error"])
    except FileNotFoundError:
        return ""
