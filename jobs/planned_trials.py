"""The trials that a run's last evaluation asked for, as tables read them; without PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sigma_pipeline.infra.storage import Storage, read_json, write_json
from sigma_pipeline.jobs.cells import Cell, Trial
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.jobs.evaluate_request import evaluate_folder

Item = TypeVar("Item")


@dataclass(frozen=True)
class PlannedTrial:
    """One trial, and how often it is made."""

    trial: Trial
    label: str
    """Its name in tables and curves; the benchmark's own, unless another trial of that benchmark
    on that dataset has taken it."""
    every: int
    seeds: tuple[int, ...]
    skipped: str | None
    """Why it cannot be made; None if it can."""

    def cells(self, run_name: str, source: EncoderSource) -> list[Cell]:
        """Its cells on one encoder."""
        return [Cell(run_name, source, self.trial, seed) for seed in self.seeds]


def record_grid(storage: Storage, run_name: str, trials: Sequence[PlannedTrial]) -> None:
    """Makes these the trials that tables show."""
    write_json(storage, grid_key(run_name), [_plain(one) for one in trials])


def read_grid(storage: Storage, run_name: str) -> tuple[PlannedTrial, ...]:
    """The trials of the last evaluation of a run; none if there was none."""
    try:
        plain = read_json(storage, grid_key(run_name))
    except FileNotFoundError:
        return ()
    return tuple(
        PlannedTrial(
            **{**one, "trial": Trial.from_plain(one["trial"]), "seeds": tuple(one["seeds"])}
        )
        for one in plain
    )


def chosen_commits(commits: Sequence[Item], every: int, *, is_final: bool) -> list[Item]:
    """Each n-th of ``commits``, counted from the first; the last one too once it is the last."""
    return [
        commit
        for number, commit in enumerate(commits)
        if number % every == 0 or (is_final and number == len(commits) - 1)
    ]


def grid_key(run_name: str) -> str:
    """Where the grid of the last evaluation lies; there was none before it is there."""
    return f"{evaluate_folder(run_name)}/grid.json"


def _plain(planned: PlannedTrial) -> dict[str, Any]:
    return {**vars(planned), "trial": planned.trial.to_plain()}
