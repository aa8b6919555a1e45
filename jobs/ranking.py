"""The commits of a run in the order of one of their scores, and the mark on the best.

All follows from cells alone, and whoever finishes one works it out anew. So writers of the mark
that race agree in the end: each looks again after it has written.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.best_by import BestBy
from sigma_pipeline.jobs.best_commit import BestCommit, best_key, read_best
from sigma_pipeline.jobs.commits import Commit, list_commits
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_policy import ranking_trial
from sigma_pipeline.jobs.planned_trials import PlannedTrial
from sigma_pipeline.jobs.scores import finished_records, mean_scores


class Ranking:
    """The commits of a run in the order of a score, the best first."""

    def __init__(self, storage: Storage, run_name: str, planned: PlannedTrial, by: BestBy) -> None:
        self._storage = storage
        self._run_name = run_name
        self.planned = planned
        """The trial that ranks."""
        self._by = by
        self._known: dict[str, Score] = {}
        self._commits: dict[str, Commit] = {}

    @classmethod
    def of_trials(
        cls,
        storage: Storage,
        run_name: str,
        trials: Sequence[PlannedTrial],
        best_by: str | None,
    ) -> "Ranking | None":
        """The ranking that a recipe asks for; None if it asks for none, or its data has no score.

        Raises:
            ConfigError: ``best_by`` does not tell one trial from the others.
        """
        if best_by is None:
            return None
        by = BestBy.parse(best_by)
        planned = ranking_trial(trials, by)
        return None if planned.skipped is not None else cls(storage, run_name, planned, by)

    def best_first(self, commits: Sequence[Commit]) -> list[Commit]:
        """Those that have a score; of equal ones the earlier.

        Raises:
            ConfigError: the trial has scores of other names.
        """
        scored = [(score, commit) for commit in commits if (score := self._score(commit))]
        kept = [pair for pair in scored if not math.isnan(pair[0].value)]
        kept.sort(key=lambda pair: (_cost(pair[0]), pair[1].step))
        return [commit for _, commit in kept]

    def mark_best(self, commits: Sequence[Commit]) -> BestCommit | None:
        """Sees to it that the store names the best commit, and none by another score; returns it.

        Args:
            commits: of the run.

        Raises:
            ConfigError: the trial has scores of other names.
        """
        while not self._is_marked(best := self._best(commits)):
            if best is None:
                self._storage.delete(best_key(self._run_name))
            else:
                write_json(self._storage, best_key(self._run_name), asdict(best))
            commits = list_commits(self._storage, self._run_name, self._commits)
        return best

    def _is_marked(self, best: BestCommit | None) -> bool:
        """Whether the mark is right; without a best one, a mark by another score is not."""
        mark = read_best(self._storage, self._run_name)
        return mark == best or (best is None and mark is not None and mark.by == str(self._by))

    def _best(self, commits: Sequence[Commit]) -> BestCommit | None:
        ranked = self.best_first(commits)
        if not ranked:
            return None
        first = ranked[0]
        return BestCommit(
            by=str(self._by),
            step=first.step,
            value=self._known[first.weights_sha256].value,
            weights_sha256=first.weights_sha256,
            attempt=first.attempt,
        )

    def _score(self, commit: Commit) -> Score | None:
        """None until all seeds of its trial are done; then it stays."""
        name = commit.weights_sha256
        if name not in self._known:
            source = committed_encoder(commit)
            records = finished_records(self._storage, self._run_name, source, self.planned)
            if not records:
                return None
            self._known[name] = self._named(mean_scores(records))
        return self._known[name]

    def _named(self, scores: Sequence[Score]) -> Score:
        for score in scores:
            if score.name == self._by.score:
                return score
        legal = ", ".join(str(replace(self._by, score=score.name)) for score in scores)
        raise ConfigError(
            f"evaluate.best_by='{self._by}': {self.planned.label} has no score "
            f"{self._by.score!r}; set it to one of: {legal}"
        )


def _cost(score: Score) -> float:
    """Lower is better."""
    return -score.value if score.higher_is_better else score.value
