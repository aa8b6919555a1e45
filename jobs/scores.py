"""Scores of a run, read from its cells: as numbers for the journal and as a table for people."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.best_commit import read_best
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.commits import list_commits, step_title
from sigma_pipeline.jobs.encoders import SUPERVISED, EncoderSource, committed_encoder
from sigma_pipeline.jobs.evaluate_policy import follows_supervised
from sigma_pipeline.jobs.failures import Failure, read_failure
from sigma_pipeline.jobs.gone_commits import gone_encoders
from sigma_pipeline.jobs.planned_trials import PlannedTrial, read_grid
from sigma_pipeline.jobs.supervised_request import (
    SupervisedRequest,
    current_supervised,
    find_supervised,
)

State = Literal["done", "missing", "skipped", "failed"]


@dataclass(frozen=True)
class TableCell:
    """One trial on one encoder, over its seeds."""

    label: str
    """The benchmark's name, with a mark if a run has several settings of it."""
    dataset: str
    state: State
    scores: tuple[Score, ...] = ()
    """Means over the seeds, once all are done. So is the interval: it speaks of the test samples,
    not of the seeds."""
    by_seed: tuple[tuple[Score, ...], ...] = ()
    """The scores of each seed, once all are done."""
    seconds: float = 0.0
    """That the seeds took, added up."""
    reason: str = ""
    """Why it was skipped or how it failed; remarks on the scores when done."""

    @property
    def seeds(self) -> int:
        """How many are done: all or none."""
        return len(self.by_seed)


@dataclass(frozen=True)
class TableRow:
    """All trials on one encoder."""

    encoder: str
    """``untrained``, ``imported``, ``step 1000``, or ``supervised``."""
    step: int
    cells: tuple[TableCell, ...]
    """Of every trial, in the order of the recipe."""
    is_best: bool = False
    """Whether it is marked as the best commit."""
    is_gone: bool = False
    """Whether its commit was deleted."""


def score_table(storage: Storage, run_name: str) -> list[TableRow]:
    """A row per evaluated commit, by step, then the supervised reference.

    Commits that no trial has been made on are left out, unless all trials are skipped anyway.
    """
    trials, best = read_grid(storage, run_name), read_best(storage, run_name)
    commits = list_commits(storage, run_name)
    rows = [
        replace(
            _row(storage, run_name, committed_encoder(commit), trials),
            encoder=commit.title,
            is_best=best is not None and best.weights_sha256 == commit.weights_sha256,
        )
        for commit in commits
    ]
    known = {committed_encoder(commit).name for commit in commits}
    gone = gone_encoders(storage, run_name, known)
    rows += [_gone_row(storage, run_name, source, trials) for source in gone]
    rows.sort(key=lambda row: row.step)
    if (request := current_supervised(storage, run_name)) is not None:
        rows.append(_supervised_row(storage, request, trials))
    is_empty = {"missing", "skipped"}
    return [
        row
        for row in rows
        if not is_empty.issuperset(states := {cell.state for cell in row.cells})
        or states == {"skipped"}
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
    """Scores under their names in the journal, ``evaluate/<benchmark>/<dataset>/<score>``."""
    folder = score_folder(source, planned)
    return {f"{folder}/{score.name}": score.value for score in scores}


def score_folder(source: EncoderSource, planned: PlannedTrial) -> str:
    """What the names of all that is journaled of a trial begin with.

    The supervised reference has names of its own: it is no point of the run's curves.
    """
    parts = ["evaluate", planned.label, planned.trial.dataset]
    if source.name == SUPERVISED:
        parts.insert(1, SUPERVISED)
    return "/".join(parts)


def _row(
    storage: Storage, run_name: str, source: EncoderSource, trials: Sequence[PlannedTrial]
) -> TableRow:
    name = source.name if source.name == SUPERVISED else step_title(source.step)
    cells = tuple(_table_cell(storage, run_name, source, planned) for planned in trials)
    return TableRow(name, source.step, cells)


def _gone_row(
    storage: Storage, run_name: str, source: EncoderSource, trials: Sequence[PlannedTrial]
) -> TableRow:
    row = _row(storage, run_name, source, trials)
    return replace(row, encoder=f"{row.encoder}, deleted", is_gone=True)


def _supervised_row(
    storage: Storage, request: SupervisedRequest, trials: Sequence[PlannedTrial]
) -> TableRow:
    source = find_supervised(storage, request)
    if source is not None:
        return _row(storage, request.run_name, source, trials)
    failure = read_failure(storage, request.failure_key)
    cells = (
        _failed(one, failure)
        if failure and follows_supervised(one)
        else TableCell(one.label, one.trial.dataset, "missing")
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
            label,
            dataset,
            "done",
            mean_scores(records),
            by_seed=tuple(record.scores for record in records),
            seconds=sum(record.seconds for record in records),
            reason=notes,
        )
    for cell in planned.cells(run_name, source):
        if failure := read_failure(storage, cell.failure_key):
            return _failed(planned, failure)
    return TableCell(label, dataset, "missing")


def _failed(planned: PlannedTrial, failure: Failure) -> TableCell:
    state: State = "skipped" if failure.is_skipped else "failed"
    return TableCell(planned.label, planned.trial.dataset, state, reason=failure.error)
