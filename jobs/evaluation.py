"""One evaluation from start to end: finds encoders, plans what is missing, records what comes out.

Whoever runs the tasks is handed in; see ``evaluate`` for the one that does it with Ray.
"""

import logging
import time
from collections.abc import Callable

from sigma_pipeline.infra.errors import MissingInputError, StageError
from sigma_pipeline.infra.journal import Journal, read_entries
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.backlog import Backlog, Outcome, Task, Workers
from sigma_pipeline.jobs.cells import Cell
from sigma_pipeline.jobs.commits import Commit, list_commits, train_folder
from sigma_pipeline.jobs.encoders import EncoderSource, committed_encoder
from sigma_pipeline.jobs.features import FeatureRequest, extract_features
from sigma_pipeline.jobs.grid import Grid
from sigma_pipeline.jobs.pictures import PictureRequest, make_picture
from sigma_pipeline.jobs.planned_trials import PlannedTrial, chosen_commits
from sigma_pipeline.jobs.scores import finished_records, mean_scores, metric_values
from sigma_pipeline.jobs.scoring import run_cell
from sigma_pipeline.jobs.supervised import train_supervised
from sigma_pipeline.jobs.supervised_request import (
    SupervisedRequest,
    find_supervised,
    name_current,
)
from sigma_pipeline.jobs.time_history import evaluation_s
from sigma_pipeline.jobs.time_ledger import EVALUATION

log = logging.getLogger(__name__)

PICTURE_NAME = "evaluate/assignments"
_FAILURES_TOLD = 5
_POLL_S = 1.0
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
        self._storage = storage
        self._journal = journal
        self._grid = grid
        self._request = grid.request
        self._workers = workers
        self._backlog = Backlog()
        self._failures: list[str] = []
        self._num_ended = 0
        self._progress_at_s = time.monotonic()
        self._trials: dict[str, tuple[EncoderSource, PlannedTrial]] = {}
        self._pictures: dict[str, PictureRequest] = {}
        self._journaled = _journaled_points(storage, self._request.run_name)
        self._commits: list[Commit] = []
        self._seen: tuple[bytes, bool] | None = None
        self._supervised: SupervisedRequest | None = None

    def run(self, follow: Callable[[], bool] | None) -> int:
        """Evaluates until all is done and ``follow`` says that training has ended.

        Returns:
            The number of tasks that were run; 0 when everything was there.

        Raises:
            MissingInputError: there is no commit, and none will come.
            StageError: tasks failed; names them. All others were done before.
        """
        if follow is not None:
            self._workers.start()
        while True:
            # Asked before looking for commits: the last one may come just before training ends.
            is_final = follow is None or not follow()
            self._plan(is_final)
            while self._workers.num_free and (task := self._backlog.take()) is not None:
                self._workers.submit(task)
            if is_final and self._workers.is_idle:
                break
            for outcome in self._workers.finished(_POLL_S):
                self._settle(outcome)
            self._journal.flush()
            self._show_progress()
        self._end()
        return self._num_ended

    def _plan(self, is_final: bool) -> None:
        """Adds tasks for what is missing and not known yet; cheap while nothing has changed."""
        seen = (self._newest_hint(), is_final)
        if seen == self._seen:
            return
        self._seen = seen
        self._commits = list_commits(self._storage, self._request.run_name)
        if is_final and not self._commits:
            raise nothing_to_evaluate(self._request.run_name)
        # Of jobs for single commits none knows which is the last; it is left to the job for all.
        is_whole = is_final and self._request.steps is None
        for planned in self._grid.possible:
            for commit in chosen_commits(self._commits, planned.every, is_final=is_whole):
                if self._request.takes(commit.step):
                    self._plan_trial(committed_encoder(commit), planned)
        for commit in self._commits:
            if self._request.takes(commit.step):
                self._plan_picture(committed_encoder(commit))
        if self._commits and self._supervised is None and self._request.is_leading:
            self._plan_supervised(self._commits[0])

    def _newest_hint(self) -> bytes:
        """Changes with each new commit; reading it is cheaper than listing all of them."""
        try:
            return self._storage.read(f"{train_folder(self._request.run_name)}/latest.json")
        except FileNotFoundError:
            return b""

    def _plan_trial(self, source: EncoderSource, planned: PlannedTrial) -> None:
        cells = planned.cells(self._request.run_name, source)
        missing = [cell for cell in cells if self._is_new(cell.key)]
        if not missing:
            self._record_scores(source, planned)
            return
        features = self._grid.features(planned.trial, source)
        for request in features:
            if self._is_new(request.key):
                self._backlog.add(self._feature_task(request))
        for cell in missing:
            self._trials[cell.key] = source, planned
            self._backlog.add(self._cell_task(cell, features))

    def _is_new(self, key: str) -> bool:
        """Whether what lies at ``key`` is neither made nor planned."""
        return key not in self._backlog and not self._storage.exists(key)

    def _feature_task(self, request: FeatureRequest) -> Task:
        return Task(
            name=request.key,
            title=f"features of {request.ref.name}/{request.ref.split}, {request.source.name}",
            function=extract_features,
            arguments=(self._storage, request, self._request.scratch_dir),
        )

    def _cell_task(self, cell: Cell, features: list[FeatureRequest]) -> Task:
        return Task(
            name=cell.key,
            title=str(cell),
            function=run_cell,
            arguments=(self._storage, cell, features, self._request.scratch_dir),
            needs=tuple(request.key for request in features if request.key in self._backlog),
            failure_key=cell.failure_key,
        )

    def _plan_picture(self, source: EncoderSource) -> None:
        if not self._request.evaluate.pictures or not self._grid.trials:
            return
        trial = self._grid.trials[0].trial
        request = PictureRequest(
            self._request.run_name, source, trial.test, trial.view, self._request.seed
        )
        if self._storage.exists(request.key):
            self._record_picture(request)
            return
        self._pictures[request.key] = request
        title, arguments = f"picture of {source.name}", (self._storage, request)
        self._backlog.add(Task(request.key, title, make_picture, arguments, rank=1))

    def _plan_supervised(self, commit: Commit) -> None:
        """The reference has the shape of the commits, which is known from the first one on."""
        self._supervised = self._grid.supervised(commit.model)
        name_current(self._storage, self._request.run_name, self._supervised)
        if self._supervised is None:
            return
        if self._storage.exists(self._supervised.receipt_key):
            self._plan_supervised_cells()
            return
        self._backlog.add(
            Task(
                name=self._supervised.receipt_key,
                title="training of the supervised reference",
                function=train_supervised,
                arguments=(self._storage, self._supervised),
                rank=2,
                failure_key=self._supervised.failure_key,
            )
        )

    def _plan_supervised_cells(self) -> None:
        assert self._supervised is not None
        source = find_supervised(self._storage, self._supervised)
        assert source is not None
        for planned in self._grid.possible:
            self._plan_trial(source, planned)

    def _settle(self, outcome: Outcome) -> None:
        """Takes note of a task that has ended."""
        task = outcome.task
        self._num_ended += 1
        if outcome.error is not None:
            self._record_failure(outcome)
            for lost in self._backlog.failed(task):
                self._record_failure(
                    Outcome(lost, f"{task.title}: {outcome.error}", outcome.traceback)
                )
            return
        self._backlog.succeeded(task)
        if task.failure_key is not None:
            self._storage.delete(task.failure_key)
        if task.name in self._trials:
            self._record_scores(*self._trials[task.name])
        elif task.name in self._pictures:
            self._record_picture(self._pictures[task.name])
        elif self._supervised is not None and task.name == self._supervised.receipt_key:
            self._plan_supervised_cells()

    def _record_failure(self, outcome: Outcome) -> None:
        task = outcome.task
        log.warning("%s failed: %s", task.title, outcome.error)
        self._failures.append(f"{task.title}: {outcome.error}")
        if task.failure_key is not None:
            record = {"error": outcome.error, "traceback": outcome.traceback}
            write_json(self._storage, task.failure_key, record)

    def _record_scores(self, source: EncoderSource, planned: PlannedTrial) -> None:
        """Brings the scores of a trial to the journal once, when all its seeds are done."""
        records = finished_records(self._storage, self._request.run_name, source, planned)
        if not records:
            return
        scores = mean_scores(records)
        values = {
            name: value
            for name, value in metric_values(source, planned, scores).items()
            if (name, source.step) not in self._journaled
        }
        if not values:
            return
        self._journaled.update((name, source.step) for name in values)
        self._journal.metrics(source.step, values)
        shown = ", ".join(
            f"{score.name} {score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
            for score in scores
        )
        log.info("%s: %s on %s: %s", source.name, planned.label, planned.trial.dataset, shown)

    def _record_picture(self, request: PictureRequest) -> None:
        point = PICTURE_NAME, request.source.step
        if point not in self._journaled:
            self._journaled.add(point)
            self._journal.picture(PICTURE_NAME, request.source.step, request.key)

    def _show_progress(self) -> None:
        if time.monotonic() - self._progress_at_s >= _PROGRESS_INTERVAL_S:
            self._progress_at_s = time.monotonic()
            log.info(
                "evaluation: %d of %d tasks ended, %d commits so far",
                self._num_ended,
                self._backlog.num_known,
                len(self._commits),
            )

    def _end(self) -> None:
        """Ends; what still waits has lost what it needs before it was added."""
        for task in self._backlog.waiting:
            self._record_failure(Outcome(task, f"not started: {', '.join(task.needs)} failed"))
        if self._num_ended:
            spent_s = evaluation_s(self._storage, self._request.run_name)
            self._journal.metrics(self._commits[-1].step, {f"time/{EVALUATION}": spent_s})
        self._journal.flush()
        if self._failures:
            more = len(self._failures) - _FAILURES_TOLD
            rest = f"; and {more} more, which the log names" if more > 0 else ""
            raise StageError(
                f"{len(self._failures)} evaluations failed, all others are done; the same command "
                f"tries them again: {'; '.join(self._failures[:_FAILURES_TOLD])}{rest}"
            )


def _journaled_points(storage: Storage, run_name: str) -> set[tuple[str, int]]:
    """(name, step) of the scores and pictures that earlier attempts brought to the journal."""
    points = set()
    for entry in read_entries(storage, run_name)[0]:
        names = {"metrics": entry.fields.get("values", ()), "picture": [entry.fields.get("name")]}
        points |= {(str(name), int(entry.fields["step"])) for name in names.get(entry.kind, ())}
    return points
