"""Two sides compared on all that both have finished."""

from collections.abc import Sequence

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.best_by import BestBy
from sigma_pipeline.jobs.compare_result import Comparison, Question, TrialComparison
from sigma_pipeline.jobs.compare_scores import PairedTrial
from sigma_pipeline.jobs.compare_trials import Gap, SharedTrial, shared_trials


def compare(storage: Storage, question: Question) -> Comparison:
    """Compares; nothing is written.

    Raises:
        ConfigError: by a trial that no run has, or a score that its benchmark has not or that says
            nothing of single samples.
        StageError: a sample has no number for its score.
        MissingInputError: outcomes are gone, or are of other samples.
    """
    shared, gaps = shared_trials(storage, question.a, question.b)
    found: list[TrialComparison] = []
    for trial in shared:
        scores = [by.score for by in question.by if _names(by, trial.where)]
        if question.by and not scores:
            continue
        paired = PairedTrial.read(storage, question, trial)
        compared = [paired.compare(storage, score) for score in scores or paired.main_scores]
        if not compared:
            reason = "it keeps nothing of single samples"
            gaps.append(Gap(trial.where, reason, None))
        found += compared
    return Comparison(question, tuple(found), tuple(_asked(question.by, shared, gaps)))


def _asked(by: Sequence[BestBy], shared: Sequence[SharedTrial], gaps: Sequence[Gap]) -> list[Gap]:
    """Those of ``gaps`` that were asked for.

    Raises:
        ConfigError: what was asked for is no trial of any of the runs.
    """
    known = dict.fromkeys([*(trial.where for trial in shared), *(gap.where for gap in gaps)])
    for one in by:
        if not any(_names(one, where) for where in known):
            raise ConfigError(
                f"--by {one}: these runs were not evaluated with {one.label} on {one.dataset}, "
                f"only with: {', '.join(known) or 'nothing'}"
            )
    return [gap for gap in gaps if not by or any(_names(one, gap.where) for one in by)]


def _names(by: BestBy, where: str) -> bool:
    return where == f"{by.label} on {by.dataset}"
