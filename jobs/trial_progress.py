"""How far each trial of a run is, seen from outside: on how many of its encoders it is done."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commit_numbers import commit_numbers
from sigma_pipeline.jobs.commits import committed_steps, list_commits
from sigma_pipeline.jobs.encoders import SUPERVISED
from sigma_pipeline.jobs.evaluate_policy import chosen_steps, follows_supervised
from sigma_pipeline.jobs.evaluation_progress import TrialProgress
from sigma_pipeline.jobs.planned_trials import PlannedTrial, read_grid
from sigma_pipeline.jobs.ranking import Ranking
from sigma_pipeline.jobs.scores import TableRow
from sigma_pipeline.jobs.supervised_request import current_supervised


def trial_progress(
    storage: Storage,
    run_name: str,
    rows: Sequence[TableRow],
    *,
    is_trained: bool,
    best_by: str | None = None,
) -> list[TrialProgress]:
    """How far each trial of the last evaluation is on the encoders that exist.

    Args:
        storage: where the run lies.
        run_name: the run.
        rows: of its table of scores.
        is_trained: whether there will be no more commits.
        best_by: the score that ranks them, as the recipe says.
    """
    trials, steps = read_grid(storage, run_name), committed_steps(storage, run_name)
    numbers = commit_numbers(storage, run_name, steps)
    chosen = [
        _Chosen(chosen_steps(steps, one, numbers=numbers, is_final=is_trained)) for one in trials
    ]
    table = _Table(trials, rows)
    if is_trained and any(one.best is not None for one in trials):
        ranked = _ranked(storage, run_name, table, chosen, best_by)
        chosen = [
            ranked.first(planned.best) if planned.best is not None else taken
            for planned, taken in zip(trials, chosen, strict=True)
        ]
    has_reference = current_supervised(storage, run_name) is not None
    return [
        table.progress(number, taken, is_referred=has_reference and follows_supervised(planned))
        for number, (planned, taken) in enumerate(zip(trials, chosen, strict=True))
    ]


@dataclass(frozen=True)
class _Chosen:
    """Commits that a trial is made on, or, of the best, all that may be."""

    steps: Sequence[int]
    num_open: int = 0
    """So many besides, of which it is not known yet which."""

    def first(self, number: int) -> "_Chosen":
        """As many of them, if there are."""
        steps = self.steps[:number]
        return _Chosen(steps, min(number - len(steps), self.num_open))


class _Table:
    """The table of scores, to be counted column by column."""

    def __init__(self, trials: Sequence[PlannedTrial], rows: Sequence[TableRow]) -> None:
        self.trials = trials
        self._references = [row for row in rows if row.encoder == SUPERVISED]
        self._by_step = {
            row.step: row for row in rows if row.encoder != SUPERVISED and not row.is_gone
        }

    def progress(self, number: int, chosen: _Chosen, *, is_referred: bool = False) -> TrialProgress:
        """Counts the cells of a trial.

        Args:
            number: of the trial.
            chosen: its commits.
            is_referred: whether it is made on the supervised reference, too.
        """
        planned = self.trials[number]
        rows = [self._by_step[step] for step in chosen.steps if step in self._by_step]
        rows += self._references if is_referred else []
        cells = [row.cells[number] for row in rows]
        states = Counter(cell.state for cell in cells)
        seconds = [cell.seconds for cell in cells if cell.state == "done"]
        num_encoders = len(chosen.steps) + chosen.num_open + int(is_referred)
        missing = num_encoders - states["done"] - states["failed"] - states["skipped"]
        return TrialProgress(
            label=planned.label,
            dataset=planned.trial.dataset,
            done=states["done"],
            failed=states["failed"],
            skipped=states["skipped"],
            missing=0 if planned.skipped is not None else missing,
            cell_s=fmean(seconds) if seconds else None,
            limits=planned.limits,
            is_impossible=planned.skipped is not None,
        )


def _ranked(
    storage: Storage,
    run_name: str,
    table: _Table,
    chosen: Sequence[_Chosen],
    best_by: str | None,
) -> _Chosen:
    """The commits that are ranked, the best first, and how many others may still be.

    None where the recipe that was named ranks by nothing that was evaluated.
    """
    try:
        ranking = Ranking.of_trials(storage, run_name, table.trials, best_by)
        if ranking is None:
            return _Chosen([])
        best_first = ranking.best_first(list_commits(storage, run_name))
    except ConfigError:
        return _Chosen([])
    number = table.trials.index(ranking.planned)
    num_open = table.progress(number, chosen[number]).missing
    return _Chosen([commit.step for commit in best_first], num_open)
