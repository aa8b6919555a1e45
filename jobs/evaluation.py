"""One evaluation from start to end: finds encoders, plans what is missing, has it done.

Whoever runs the tasks is handed in; see ``evaluate`` for the one that does it with Ray.
"""

import logging
import time
from collections.abc import Callable
from contextlib import closing, nullcontext

from sigma_pipeline.infra.errors import MissingInputError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.backlog import Backlog, Outcome, Workers
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import EncoderSource, committed_encoder
from sigma_pipeline.jobs.evaluate_policy import follows_supervised
from sigma_pipeline.jobs.evaluation_progress import describe_counts
from sigma_pipeline.jobs.evaluation_record import EvaluationRecord
from sigma_pipeline.jobs.evaluation_tasks import TaskAdder
from sigma_pipeline.jobs.evaluation_trials import End, PlannedCells
from sigma_pipeline.jobs.feature_space import FeatureSpace
from sigma_pipeline.jobs.gone_commits import note_if_gone
from sigma_pipeline.jobs.gpu_budget import GpuBudget
from sigma_pipeline.jobs.gpu_sharing import evaluation_turns
from sigma_pipeline.jobs.grid import Grid
from sigma_pipeline.jobs.pictures import PictureRequest
from sigma_pipeline.jobs.planned_trials import PlannedTrial
from sigma_pipeline.jobs.ranking import Ranking
from sigma_pipeline.jobs.run_commits import RunCommits
from sigma_pipeline.jobs.supervised_request import (
    SupervisedRequest,
    find_supervised,
    name_current,
)
from sigma_pipeline.jobs.task_starts import TaskStarts

log = logging.getLogger(__name__)

_POLL_S = 0.5
_PROGRESS_INTERVAL_S = 30.0


def nothing_to_evaluate(run_name: str) -> MissingInputError:
    """The error of a run without commits, to which none will come."""
    return MissingInputError(
        f"run {run_name!r} has no commit to evaluate; make one with: "
        "sigma-pipeline run --stage train"
    )


class Evaluation:
    """Does what is missing of a grid, and goes on while training makes commits."""

    def __init__(self, storage: Storage, journal: Journal, grid: Grid, workers: Workers) -> None:
        """Begins nothing yet.

        Raises:
            ConfigError: the score that ranks commits cannot be told from others.
        """
        self._storage = storage
        self._journal = journal
        self._grid = grid
        self._request = grid.request
        self._workers = workers
        self._backlog = Backlog()
        run_name, limit_gib = self._request.run_name, self._request.evaluate.features_gib
        self._space = FeatureSpace(storage, run_name, limit_gib)
        self._tasks = TaskAdder(storage, grid, self._backlog, self._space)
        self._record = EvaluationRecord(storage, journal, self._request.run_name)
        self._cells = PlannedCells(grid.trials)
        self._pictures: dict[str, PictureRequest] = {}
        self._ranking = Ranking.of_trials(
            storage, self._request.run_name, grid.trials, self._request.evaluate.best_by
        )
        self._budget = GpuBudget(storage, self._request.run_name, self._request.evaluate.gpu_hours)
        self._starts = TaskStarts(self._backlog, workers, self._cells, self._space, self._budget)
        self._num_ended = 0
        self._progress_at_s = time.monotonic()
        self._commits = RunCommits(storage, self._request)
        self._seen: tuple[bytes, bool, bool] | None = None
        self._has_news = False
        self._supervised: SupervisedRequest | None = None

    def run(self, follow: Callable[[], bool] | None) -> int:
        """Evaluates until all is done and ``follow`` says that training has ended.

        Returns:
            The number of tasks that were run; 0 when everything was there.

        Raises:
            MissingInputError: there is no commit, and none will come.
            StageError: tasks failed; names them. All others were done before.
        """
        request = self._request
        turns = self._starts.turns = evaluation_turns(
            request.launch, request.scratch_dir, request.run_name, is_following=follow is not None
        )
        with nullcontext() if turns is None else closing(turns), closing(self._budget):
            if follow is not None:
                self._workers.start()
            self._work(follow)
        self._record.end(self._commits.all[-1].step if self._num_ended else None)
        return self._num_ended

    def _work(self, follow: Callable[[], bool] | None) -> None:
        while True:
            # Asked before looking for commits: the last one may come just before training ends.
            is_final = follow is None or not follow()
            self._plan(is_final)
            self._start_tasks()
            if is_final and self._starts.are_over and not self._has_news:
                self._tell_what_waits()
                return
            for outcome in self._workers.finished(_POLL_S):
                self._settle(outcome)
            self._journal.flush()
            self._budget.note()
            self._show_progress()

    def _start_tasks(self) -> None:
        for task, reason in self._starts.begin():
            self._record.skip(task, reason)
            self._end_cell(task.name, "skipped")
        for outcome in self._starts.hopeless():
            self._fail_all(outcome)

    def _plan(self, is_final: bool) -> None:
        """Adds tasks for what is missing and not known yet; cheap while nothing has changed."""
        is_whole = is_final and self._commits.are_whole()
        seen = (self._commits.hint(), is_final, is_whole)
        if seen == self._seen and not self._has_news:
            return
        is_first = self._seen is None
        if seen != self._seen:
            self._commits.look()
        self._seen, self._has_news = seen, False
        if is_final and not self._commits.all:
            raise nothing_to_evaluate(self._request.run_name)
        self._plan_commits(is_whole=is_whole)
        if is_first:
            self._mark_best()
        for lost in self._backlog.withdraw_lost():
            self._fail(Outcome(lost, f"not started: {', '.join(lost.needs)} failed"))

    def _plan_commits(self, *, is_whole: bool) -> None:
        possible = self._grid.possible
        for commit, planned in self._commits.chosen(possible, is_whole=is_whole):
            self._plan_trial(committed_encoder(commit), planned)
        if is_whole:  # after the others, which are to be known to be done or not by then
            best_first = self._best_first()
            for planned in possible:
                for commit in best_first[: planned.best or 0]:
                    self._plan_trial(committed_encoder(commit), planned)
        for commit in self._commits.own:
            self._plan_picture(committed_encoder(commit))
        if self._commits.all and self._supervised is None and self._request.is_leading:
            self._plan_supervised(self._commits.all[0])

    def _mark_best(self) -> None:
        if self._ranking is not None:
            self._record.best(self._ranking, self._commits.all)
        elif self._request.is_leading:
            self._record.no_best()

    def _is_ranked(self) -> bool:
        """Whether no score is waited for that ranks a commit."""
        return self._ranking is not None and not self._cells.is_waited_for(self._ranking.planned)

    def _best_first(self) -> list[Commit]:
        """The commits by rank; none before each that is to have a score has ended."""
        if self._ranking is None or not self._is_ranked():
            return []
        return self._record.ranked(self._ranking, self._commits.all)

    def _plan_trial(self, source: EncoderSource, planned: PlannedTrial) -> None:
        if self._cells.is_taken(source, planned):
            return
        cells = planned.cells(self._request.run_name, source)
        missing = [cell for cell in cells if self._tasks.is_new(cell.key)]
        self._cells.add(source, planned, [cell.key for cell in missing])
        for cell in missing:
            self._tasks.add_cell(planned, cell)
        if not missing:
            self._record_scores(source, planned)

    def _plan_picture(self, source: EncoderSource) -> None:
        if not self._request.evaluate.pictures or not self._grid.trials:
            return
        trial = self._grid.trials[0].trial
        request = PictureRequest(
            self._request.run_name, source, trial.test, trial.view.single, self._request.seed
        )
        if request.key in self._pictures:
            return
        self._pictures[request.key] = request
        if self._storage.exists(request.key):
            self._record.picture(request)
        else:
            self._tasks.add_picture(request)

    def _plan_supervised(self, commit: Commit) -> None:
        """The reference has the shape of the commits, which is known from the first one on."""
        self._supervised = self._grid.supervised(commit.model)
        name_current(self._storage, self._request.run_name, self._supervised)
        if self._supervised is None:
            return
        if self._storage.exists(self._supervised.receipt_key):
            self._plan_supervised_cells()
        else:
            self._tasks.add_supervised(self._supervised)

    def _plan_supervised_cells(self) -> None:
        assert self._supervised is not None
        source = find_supervised(self._storage, self._supervised)
        assert source is not None
        for planned in self._grid.possible:
            if follows_supervised(planned):
                self._plan_trial(source, planned)

    def _settle(self, outcome: Outcome) -> None:
        """Takes note of a task that has ended."""
        task = outcome.task
        self._num_ended += 1
        self._starts.end(task, has_succeeded=outcome.error is None)
        if outcome.error is not None:
            self._fail_all(outcome)
            return
        self._space.end(task.name)
        self._backlog.succeeded(task)
        self._record.success(task)
        if (known := self._cells.find(task.name)) is not None:
            self._end_cell(task.name, "done")
            self._record_scores(*known)
            if self._ranking is not None and known[1] is self._ranking.planned:
                self._mark_best()
        elif task.name in self._pictures:
            self._record.picture(self._pictures[task.name])
        elif self._supervised is not None and task.name == self._supervised.receipt_key:
            self._plan_supervised_cells()

    def _fail_all(self, outcome: Outcome) -> None:
        """Takes note of a task that has failed, and with it all that need it."""
        self._fail(outcome)
        task = outcome.task
        for lost in self._backlog.failed(task):
            self._fail(Outcome(lost, f"{task.title}: {outcome.error}", outcome.traceback))

    def _fail(self, outcome: Outcome) -> None:
        name = outcome.task.name
        self._space.end(name)
        self._record.failure(outcome)
        if (known := self._cells.find(name)) is not None:
            note_if_gone(self._storage, self._request.run_name, known[0])
            self._end_cell(name, "failed")

    def _end_cell(self, name: str, end: End) -> None:
        known = self._cells.find(name)
        self._cells.end(name, end)
        # With the last score that ranks, however it ended, the best commits can be planned.
        if self._ranking is not None and known and known[1] is self._ranking.planned:
            self._has_news = True

    def _record_scores(self, source: EncoderSource, planned: PlannedTrial) -> None:
        seconds = self._record.scores(source, planned)
        if seconds is not None:
            self._cells.note_time(source, planned, seconds)

    def _show_progress(self) -> None:
        if time.monotonic() - self._progress_at_s < _PROGRESS_INTERVAL_S:
            return
        self._progress_at_s = time.monotonic()
        counts = describe_counts(self._cells.progress(), self._request.launch)
        log.info("evaluation of %d commits so far: %s", len(self._commits.all), counts)
        if wait := self._starts.describe_wait():
            log.warning("Nothing runs, but %s", wait)

    def _tell_what_waits(self) -> None:
        """Says how many cells are left to an evaluation after the end of training."""
        if self._request.steps is not None or self._commits.are_whole():
            return
        number = sum(self._commits.num_waiting(one) * len(one.seeds) for one in self._grid.possible)
        if number:
            log.warning(
                "%d cells wait for the end of training; give the command sigma-pipeline run "
                "--stage evaluate then",
                number,
            )
