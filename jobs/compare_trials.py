"""What both sides of a comparison have been tried on: outcomes, side by side.

Only cells of equal trials (benchmark, settings, data, examples) and equal seeds are compared, and
samples are paired by their keys.
"""

import io
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from sigma_pipeline.infra.errors import MissingInputError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.cells import Cell, CellRecord
from sigma_pipeline.jobs.compare_sides import Member, Side
from sigma_pipeline.jobs.compare_values import Columns
from sigma_pipeline.jobs.planned_trials import PlannedTrial, read_grid

_SHOWN_KEYS = 3

SampleId = tuple[str, int]
"""Key of a sample, and which of its rows it is."""


class Gap(NamedTuple):
    """A trial that cannot be compared, or not with all its seeds."""

    where: str
    """``knn on k400``."""
    reason: str
    run_name: str | None
    """Of which something is missing; None: no evaluation changes it."""


@dataclass(frozen=True)
class SharedTrial:
    """A trial that all encoders of both sides have finished, with these seeds."""

    planned: PlannedTrial
    seeds: tuple[int, ...]
    records: Mapping[tuple[str, str, int], CellRecord]
    """By run, encoder and seed."""

    @property
    def where(self) -> str:
        """For people."""
        return _where(self.planned)

    def record(self, member: Member, seed: int) -> CellRecord:
        """That of one encoder."""
        return self.records[_key(member, seed)]


def shared_trials(storage: Storage, a: Side, b: Side) -> tuple[list[SharedTrial], list[Gap]]:
    """What can be compared, in the order of the first run's recipe; and what cannot, and why."""
    members = [*a.members, *b.members]
    grids = {name: _grid(storage, name) for name in dict.fromkeys(m.run_name for m in members)}
    trials: dict[str, PlannedTrial] = {}
    for grid in grids.values():
        trials |= {name: one for name, one in grid.items() if name not in trials}
    shared, gaps = [], []
    for name, planned in trials.items():
        lacking = [run_name for run_name, grid in grids.items() if name not in grid]
        if lacking:
            reason = _lack(lacking[0], grids[lacking[0]])
            gaps.append(Gap(_where(planned), reason, lacking[0]))
            continue
        asked = {run_name: set(grid[name].seeds) for run_name, grid in grids.items()}
        seeds = set.intersection(*asked.values())
        gaps += _unasked(planned, asked)
        trial, missing = _finished(storage, members, planned, sorted(seeds))
        gaps += missing
        shared += [trial] if trial.seeds else []
    return shared, gaps


def read_columns(storage: Storage, trial: SharedTrial, side: Side) -> list[list[Columns]]:
    """Outcomes of each member of a side with each seed."""
    return [
        [_columns(storage, trial.record(member, seed).outcomes) for seed in trial.seeds]
        for member in side.members
    ]


def sample_ids(columns: Columns) -> list[SampleId]:
    """What tells rows apart: several of one key (objects of a video) are in a fixed order."""
    seen: Counter[str] = Counter()
    ids = []
    for key in columns["key"]:
        ids.append((key, seen[key]))
        seen[key] += 1
    return ids


def aligned_rows(wanted: Sequence[SampleId], columns: Columns, where: str) -> npt.NDArray[np.int64]:
    """The row of ``columns`` for each of ``wanted``.

    Raises:
        MissingInputError: they are not of the same samples; names those that differ.
    """
    rows = {sample: row for row, sample in enumerate(sample_ids(columns))}
    if rows.keys() != set(wanted):
        lacking = list(dict.fromkeys(key for key, _ in wanted if (key, 0) not in rows))
        more = list(dict.fromkeys(key for key, _ in rows.keys() - set(wanted)))
        raise MissingInputError(
            f"{where} has outcomes of other samples than the first side: without "
            f"{_some(lacking)}; besides {_some(more)}. Delete that cell's .json file and evaluate "
            "again"
        )
    return np.array([rows[sample] for sample in wanted], dtype=np.int64)


def cluster_numbers(columns: Columns) -> npt.NDArray[np.int64]:
    """[rows] from 0: rows of one group vary together, and so do rows of one sample."""
    groups: Sequence[Hashable] = [
        key if group is None else ("group", group)
        for key, group in zip(
            columns["key"], columns.get("group", [None] * len(columns["key"])), strict=True
        )
    ]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return np.array([numbers[group] for group in groups], dtype=np.int64)


def _unasked(planned: PlannedTrial, asked: Mapping[str, set[int]]) -> list[Gap]:
    """Runs that were not to have all the seeds that others have."""
    wanted = set.union(*asked.values())
    return [
        Gap(
            _where(planned),
            f"{run_name} was evaluated without seed {', '.join(map(str, sorted(wanted - seeds)))}",
            run_name,
        )
        for run_name, seeds in asked.items()
        if seeds != wanted
    ]


def _lack(run_name: str, grid: Mapping[str, PlannedTrial]) -> str:
    if not grid:
        return f"{run_name} has not been evaluated"
    return f"{run_name} was evaluated without it, or with other settings or data"


def _grid(storage: Storage, run_name: str) -> dict[str, PlannedTrial]:
    """By fingerprint; what its data cannot carry is left out."""
    trials = read_grid(storage, run_name)
    return {one.trial.fingerprint: one for one in trials if one.skipped is None}


def _finished(
    storage: Storage, members: Sequence[Member], planned: PlannedTrial, seeds: Sequence[int]
) -> tuple[SharedTrial, list[Gap]]:
    """The trial with those seeds that all members have finished."""
    records: dict[tuple[str, str, int], CellRecord] = {}
    gaps = []
    for seed in seeds:
        for member in members:
            cell = Cell(member.run_name, member.source, planned.trial, seed)
            if (record := CellRecord.read(storage, cell)) is None:
                reason = f"{member} has no scores with seed {seed}"
                gaps.append(Gap(_where(planned), reason, member.run_name))
                break
            records[_key(member, seed)] = record
    if not seeds:
        reason = "its runs were evaluated with other seeds"
        gaps.append(Gap(_where(planned), reason, members[-1].run_name))
    lacking = {seed for seed in seeds if any(_key(one, seed) not in records for one in members)}
    whole = tuple(seed for seed in seeds if seed not in lacking)
    return SharedTrial(planned, whole, records), gaps


def _key(member: Member, seed: int) -> tuple[str, str, int]:
    return member.run_name, member.source.name, seed


def _where(planned: PlannedTrial) -> str:
    return f"{planned.label} on {planned.trial.dataset}"


def _columns(storage: Storage, key: str) -> dict[str, list[Any]]:
    try:
        columns: dict[str, list[Any]] = pq.read_table(io.BytesIO(storage.read(key))).to_pydict()
    except FileNotFoundError:
        raise MissingInputError(
            f"{storage.uri(key)} is gone: somebody deleted the outcomes of a cell; delete its "
            ".json file too, and evaluate again"
        ) from None
    return columns


def _some(keys: Sequence[str]) -> str:
    """How many there are, and the first few."""
    if not keys:
        return "none"
    shown: Iterator[str] = iter(keys[:_SHOWN_KEYS])
    return f"{len(keys)} ({', '.join(shown)}{', ...' if len(keys) > _SHOWN_KEYS else ''})"
