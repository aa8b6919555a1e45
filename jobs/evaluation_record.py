"""What an evaluation writes down as its tasks end: scores, pictures, the best commit, failures."""

import logging
from collections.abc import Collection, Sequence

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.journal import Entry, Journal, read_entries
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.backlog import Outcome, Task
from sigma_pipeline.jobs.best_commit import best_key
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.jobs.failures import Failure, write_failure
from sigma_pipeline.jobs.figure_journal import journal_figures
from sigma_pipeline.jobs.pictures import PictureRequest
from sigma_pipeline.jobs.planned_trials import PlannedTrial
from sigma_pipeline.jobs.ranking import Ranking
from sigma_pipeline.jobs.run_summaries import write_summaries
from sigma_pipeline.jobs.scores import finished_records, mean_scores, metric_values
from sigma_pipeline.jobs.time_history import evaluation_s
from sigma_pipeline.jobs.time_ledger import EVALUATION

log = logging.getLogger(__name__)

PICTURE_NAME = "evaluate/assignments"
BEST_TAGS = ("best_by", "best_step", "best_score")
"""Of the run, in the journal and in MLflow."""
_FAILURES_TOLD = 5


class EvaluationRecord:
    """The pen of one evaluation. What earlier ones brought to the journal is not brought again."""

    def __init__(self, storage: Storage, journal: Journal, run_name: str) -> None:
        self._storage = storage
        self._journal = journal
        self._run_name = run_name
        self._failures: list[str] = []
        entries = read_entries(storage, run_name)[0]
        self._journaled = _journaled_points(entries)
        self._told_best = _told_tags(entries)

    def scores(self, source: EncoderSource, planned: PlannedTrial) -> float | None:
        """Brings the scores of a trial to the journal once, when all its seeds are done.

        Returns:
            The seconds that the seeds took together; None until all are done.
        """
        records = finished_records(self._storage, self._run_name, source, planned)
        if not records:
            return None
        journal_figures(self._journal, self._journaled, source, planned, records)
        scores = mean_scores(records)
        values = {
            name: value
            for name, value in metric_values(source, planned, scores).items()
            if (name, source.step) not in self._journaled
        }
        if values:
            self._journaled.update((name, source.step) for name in values)
            self._journal.metrics(source.step, values)
            shown = ", ".join(
                f"{score.name} {score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
                for score in scores
            )
            log.info("%s: %s on %s: %s", source.name, planned.label, planned.trial.dataset, shown)
        return sum(record.seconds for record in records)

    def picture(self, request: PictureRequest) -> None:
        """Brings a picture to the journal, once."""
        point = PICTURE_NAME, request.source.step
        if point not in self._journaled:
            self._journaled.add(point)
            self._journal.picture(PICTURE_NAME, request.source.step, request.key)

    def best(self, ranking: Ranking, commits: Sequence[Commit]) -> None:
        """Marks the best commit in the store, and tells the journal where that is another."""
        try:
            best = ranking.mark_best(commits)
        except ConfigError as error:
            self.problem(str(error))
            return
        if best is None:
            return
        tags = dict(zip(BEST_TAGS, (best.by, str(best.step), f"{best.value:.6g}"), strict=True))
        if tags != self._told_best:
            self._told_best = tags
            self._journal.tags(tags)
            log.info("Best commit by %s: step %d, %.4g", best.by, best.step, best.value)

    def no_best(self) -> None:
        """Takes the mark away that an earlier recipe has set."""
        self._storage.delete(best_key(self._run_name))

    def ranked(self, ranking: Ranking, commits: Sequence[Commit]) -> list[Commit]:
        """The commits that have the score, the best first; none where it has another name."""
        try:
            return ranking.best_first(commits)
        except ConfigError as error:
            self.problem(str(error))
            return []

    def problem(self, text: str) -> None:
        """Keeps, once, what makes the evaluation fail in the end."""
        if text not in self._failures:
            log.error("%s", text)
            self._failures.append(text)

    def failure(self, outcome: Outcome) -> None:
        """Keeps the error of a task."""
        task, error = outcome.task, outcome.error or ""
        log.warning("%s failed: %s", task.title, error)
        self._failures.append(f"{task.title}: {error}")
        if task.failure_key is not None:
            write_failure(self._storage, task.failure_key, Failure(error, outcome.traceback))

    def skip(self, task: Task, reason: str) -> None:
        """Keeps why a task is not to be tried; no failure."""
        log.warning("%s is skipped: %s", task.title, reason)
        assert task.failure_key is not None
        write_failure(self._storage, task.failure_key, Failure(reason, is_skipped=True))

    def success(self, task: Task) -> None:
        """Forgets an earlier error of a task."""
        if task.failure_key is not None:
            self._storage.delete(task.failure_key)

    def end(self, step: int | None) -> None:
        """Writes what the cells say together, and the time that all of them took.

        Args:
            step: where that time stands; None if no cell was made.

        Raises:
            StageError: tasks failed; names them, whatever else goes wrong here.
        """
        try:
            write_summaries(self._storage, self._journal, self._run_name)
            if step is not None:
                spent_s = evaluation_s(self._storage, self._run_name)
                self._journal.metrics(step, {f"time/{EVALUATION}": spent_s})
            self._journal.flush()
        finally:
            self._raise_failures()

    def _raise_failures(self) -> None:
        if self._failures:
            more = len(self._failures) - _FAILURES_TOLD
            rest = f"; and {more} more, which the log names" if more > 0 else ""
            raise StageError(
                f"{len(self._failures)} evaluations failed, all others are done; the same command "
                f"tries them again: {'; '.join(self._failures[:_FAILURES_TOLD])}{rest}"
            )


def _journaled_points(entries: Collection[Entry]) -> set[tuple[str, int]]:
    """(name, step) of the scores and pictures that are in the journal."""
    points = set()
    for entry in entries:
        names = {"metrics": entry.fields.get("values", ()), "picture": [entry.fields.get("name")]}
        points |= {(str(name), int(entry.fields["step"])) for name in names.get(entry.kind, ())}
    return points


def _told_tags(entries: Collection[Entry]) -> dict[str, str]:
    """What the journal says of the best commit, by the newest word."""
    told = [
        entry
        for entry in entries
        if entry.kind == "tags" and entry.fields["values"].keys() >= set(BEST_TAGS)
    ]
    newest = max(told, key=lambda entry: entry.time_ms, default=None)
    return {} if newest is None else dict(newest.fields["values"])
