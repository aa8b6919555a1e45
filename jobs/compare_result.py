"""What a comparison says: of each trial, and of all of them together."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sigma_pipeline.jobs.best_by import BestBy
from sigma_pipeline.jobs.compare_flips import ClassFlips
from sigma_pipeline.jobs.compare_sides import Side
from sigma_pipeline.jobs.compare_statistics import Estimate, Relation, holm
from sigma_pipeline.jobs.compare_trials import Gap

Verdict = Literal["better", "worse", "not distinguishable"]
Overall = Literal["better", "worse", "mixed", "not distinguishable"]
"""``mixed``: better on one trial, worse on another."""
Gate = Literal["better", "not-worse"]

_LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked about two sides."""

    a: Side
    b: Side
    relation: Relation
    margin: float = 0.0
    """In the unit of each score: a difference that does not matter."""
    by: tuple[BestBy, ...] = ()
    """Scores to compare; none: the first of each trial, or the one that its SEVERE column has."""
    seed: int = 0
    """Of all draws."""

    @property
    def is_about_recipes(self) -> bool:
        """Whether what another run would change is taken into account."""
        return self.relation == "one_recipe" or (
            self.relation != "two_encoders" and max(len(self.a.members), len(self.b.members)) > 1
        )


@dataclass(frozen=True, kw_only=True)
class TrialComparison:
    """One score of one trial, on both sides."""

    label: str
    dataset: str
    score: str
    unit: str
    higher_is_better: bool
    samples: int
    clusters: int
    """As many as there are samples where each is independent."""
    seeds: tuple[int, ...]
    a: float
    b: float
    estimate: Estimate
    """Of A less B."""
    p_encoders: float
    """Of no difference between these very encoders, whatever other runs would give."""
    flips: tuple[ClassFlips, ...]
    """None where no class is predicted."""
    notes: tuple[str, ...]

    @property
    def where(self) -> str:
        """For people."""
        return f"{self.label} on {self.dataset}"

    @property
    def gain(self) -> float:
        """How much better A is; below 0 where it is worse."""
        return self.estimate.difference if self.higher_is_better else -self.estimate.difference

    @property
    def least_gain(self) -> float:
        """The end of the interval at which A is worst."""
        return self.estimate.low if self.higher_is_better else -self.estimate.high

    @property
    def verdict(self) -> Verdict:
        """Of this trial alone."""
        return self.verdict_at(self.estimate.p_margin)

    def verdict_at(self, p_value: float) -> Verdict:
        """With a p-value that may have been adjusted for other trials."""
        if p_value > _LEVEL:
            return "not distinguishable"
        return "better" if self.gain > 0 else "worse"


@dataclass(frozen=True)
class Comparison:
    """All that was asked, and the answer."""

    question: Question
    trials: tuple[TrialComparison, ...]
    gaps: tuple[Gap, ...]
    """What could not be compared."""

    @property
    def adjusted(self) -> list[float]:
        """P-values of the trials' verdicts, for the number of them."""
        return holm([trial.estimate.p_margin for trial in self.trials])

    @property
    def overall(self) -> Overall:
        """Of all trials together: 5% chance at most of any that is not so."""
        found = {
            trial.verdict_at(p_value)
            for trial, p_value in zip(self.trials, self.adjusted, strict=True)
        }
        if {"better", "worse"} <= found:
            return "mixed"
        found.discard("not distinguishable")
        return found.pop() if found else "not distinguishable"

    def meets(self, gate: Gate) -> bool:
        """Whether the answer is as required.

        ``not-worse`` without a margin: no trial shows that A is worse. With one: every trial shows
        that A is worse by less than the margin, if at all (non-inferiority; as all have to, no
        correction for their number is due).
        """
        if gate == "better":
            return self.overall == "better"
        if self.question.margin > 0:
            return all(trial.least_gain > -self.question.margin for trial in self.trials)
        return self.overall not in ("worse", "mixed")

    def to_plain(self) -> dict[str, Any]:
        """As JSON takes it; what is not finite is None."""
        question = self.question
        return {
            "a": [str(member) for member in question.a.members],
            "b": [str(member) for member in question.b.members],
            "about": "recipes" if question.is_about_recipes else "encoders",
            "margin": question.margin,
            "overall": self.overall,
            "trials": [
                _plain_trial(trial, adjusted)
                for trial, adjusted in zip(self.trials, self.adjusted, strict=True)
            ],
            "not_compared": [{"trial": gap.where, "reason": gap.reason} for gap in self.gaps],
        }


def _plain_trial(trial: TrialComparison, adjusted: float) -> dict[str, Any]:
    plain = asdict(trial)
    numbers = {name: _finite(value) for name, value in plain.pop("estimate").items()}
    found = {"verdict": trial.verdict, "p_adjusted": adjusted}
    return {**plain, **numbers, **found}


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
