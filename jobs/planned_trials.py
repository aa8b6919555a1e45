"""The trials that a run's last evaluation asked for, as tables read them; without PyTorch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sigma_pipeline.infra.storage import Storage, read_json, write_json
from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.benchmarks.benchmark import Cost
from sigma_pipeline.jobs.cells import Cell, Trial
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.jobs.evaluate_request import evaluate_folder
from sigma_pipeline.jobs.severe_columns import SevereColumn


@dataclass(frozen=True)
class PlannedTrial:
    """One trial, and how often it is made."""

    trial: Trial
    label: str
    """Its name in tables and curves; the benchmark's own, unless another trial of that benchmark
    on that dataset has taken it."""
    cost: Cost
    every: int | None
    """Take each n-th commit, and the last; None: what its cost stands for, or ``best``."""
    best: int | None
    """Take so many of the best commits, when training has ended."""
    seeds: tuple[int, ...]
    limits: TaskLimits
    """Of the task of each cell."""
    skipped: str | None
    """Why it cannot be made; None if it can."""
    notes: tuple[str, ...] = ()
    """Remarks on its scores that follow from the recipe alone."""
    column: SevereColumn | None = None
    """Which column of the SEVERE table its score is."""
    deviations: tuple[str, ...] = ()
    """Settings other than the recipe ``severe`` has for that column."""

    def cells(self, run_name: str, source: EncoderSource) -> list[Cell]:
        """Its cells on one encoder."""
        return [Cell(run_name, source, self.trial, seed) for seed in self.seeds]


def record_grid(storage: Storage, run_name: str, trials: Sequence[PlannedTrial]) -> None:
    """Makes these the trials that tables show."""
    write_json(storage, _grid_key(run_name), [_plain(one) for one in trials])


def read_grid(storage: Storage, run_name: str) -> tuple[PlannedTrial, ...]:
    """The trials of the last evaluation of a run; none if there was none."""
    try:
        plain = read_json(storage, _grid_key(run_name))
    except FileNotFoundError:
        return ()
    return tuple(_planned(one) for one in plain)


def record_absent(storage: Storage, run_name: str, absent: Mapping[SevereColumn, str]) -> None:
    """Makes these the columns of SEVERE that tables show as left out, each with its reason."""
    write_json(storage, _absent_key(run_name), dict(absent))


def read_absent(storage: Storage, run_name: str) -> dict[SevereColumn, str]:
    """Columns that the last evaluation was asked for and left out; none if there was none."""
    try:
        absent: dict[SevereColumn, str] = read_json(storage, _absent_key(run_name))
    except FileNotFoundError:
        return {}
    return absent


def _absent_key(run_name: str) -> str:
    return f"{evaluate_folder(run_name)}/absent_columns.json"


def _grid_key(run_name: str) -> str:
    """Where the grid of the last evaluation lies; nothing is there before the first one."""
    return f"{evaluate_folder(run_name)}/trials.json"


def _plain(planned: PlannedTrial) -> dict[str, Any]:
    return {**asdict(planned), "trial": planned.trial.to_plain()}


def _planned(plain: Mapping[str, Any]) -> PlannedTrial:
    changed = {
        "trial": Trial.from_plain(plain["trial"]),
        "seeds": tuple(plain["seeds"]),
        "limits": TaskLimits(**plain["limits"]),
        "notes": tuple(plain["notes"]),
        "deviations": tuple(plain.get("deviations", ())),
    }
    return PlannedTrial(**{**plain, **changed})
