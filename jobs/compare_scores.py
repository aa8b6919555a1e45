"""The scores of one trial on both sides, sample by sample."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.benchmarks.intervals import ONE_SEQUENCE
from sigma_pipeline.jobs.compare_flips import ClassFlips, class_flips, only_right
from sigma_pipeline.jobs.compare_result import Question, TrialComparison
from sigma_pipeline.jobs.compare_sides import Side
from sigma_pipeline.jobs.compare_statistics import FEWEST_CLUSTERS, Outcomes, estimated
from sigma_pipeline.jobs.compare_trials import (
    SharedTrial,
    aligned_rows,
    cluster_numbers,
    read_columns,
    sample_ids,
)
from sigma_pipeline.jobs.compare_values import Columns, hits, sample_values
from sigma_pipeline.jobs.severe_columns import COLUMNS

_EQUAL = 1e-6
"""Scores that differ less are the same but for rounding."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PairedTrial:
    """Outcomes of a trial on both sides."""

    question: Question
    trial: SharedTrial
    first: Columns
    """Of A's first run with the first seed: all others' rows are brought into its order."""
    a: Sequence[Sequence[tuple[Columns, Rows]]]
    """Of each run with each seed: the columns, and their rows in that order."""
    b: Sequence[Sequence[tuple[Columns, Rows]]]

    @classmethod
    def read(cls, storage: Storage, question: Question, trial: SharedTrial) -> Self:
        """Reads the outcomes.

        Raises:
            MissingInputError: they are gone, or are of other samples.
        """
        sides = [read_columns(storage, trial, side) for side in (question.a, question.b)]
        first = sides[0][0][0]
        wanted = sample_ids(first)

        def aligned(side: Side, runs: list[list[Columns]]) -> list[list[tuple[Columns, Rows]]]:
            where = f"{trial.where}, {side}"
            return [[(one, aligned_rows(wanted, one, where)) for one in seeds] for seeds in runs]

        return cls(
            question, trial, first, aligned(question.a, sides[0]), aligned(question.b, sides[1])
        )

    @property
    def scores(self) -> tuple[Score, ...]:
        """Of A's first run with the first seed: which scores there are."""
        return self.trial.record(self.question.a.members[0], self.trial.seeds[0]).scores

    @property
    def main_scores(self) -> list[str]:
        """The one that the trial is judged by: its SEVERE column's, else the first.

        If nothing is known of that one sample by sample, the next; none if there is none.
        """
        column = self.trial.planned.column
        names = [*([COLUMNS[column].score] if column else []), *(one.name for one in self.scores)]
        return [name for name in names if sample_values(self.first, name) is not None][:1]

    def compare(self, storage: Storage, score_name: str) -> TrialComparison:
        """By one of its scores.

        Raises:
            ConfigError: there is no such score, or nothing is known of it sample by sample.
            StageError: a sample has no number for it.
        """
        score = self._score(score_name)
        a, b = (self._outcomes(side, score_name) for side in (self.a, self.b))
        clusters, question = cluster_numbers(self.first), self.question
        estimate, alone = (
            estimated(a, b, clusters, relation, margin=question.margin, seed=question.seed)
            for relation in (question.relation, "two_encoders")
        )
        return TrialComparison(
            label=self.trial.planned.label,
            dataset=self.trial.planned.trial.dataset,
            score=score_name,
            unit=score.unit,
            higher_is_better=score.higher_is_better,
            samples=len(clusters),
            clusters=int(clusters.max()) + 1,
            seeds=self.trial.seeds,
            a=float(a.values.mean()),
            b=float(b.values.mean()),
            estimate=estimate,
            p_encoders=alone.p_value,
            flips=self._flips(storage),
            notes=tuple(self._notes(score_name, (a, b), clusters)),
        )

    def _score(self, name: str) -> Score:
        found = {score.name: score for score in self.scores}
        known = [one for one in found if sample_values(self.first, one) is not None]
        if name in known:
            return found[name]
        lack = "says nothing of single samples" if name in found else "is no score of it"
        raise ConfigError(
            f"{self.trial.where} cannot be compared by {name!r}, which {lack}; it may be: "
            f"{', '.join(known) or 'none'}"
        )

    def _outcomes(self, side: Sequence[Sequence[tuple[Columns, Rows]]], score: str) -> Outcomes:
        def values(columns: Columns, rows: Rows) -> npt.NDArray[np.float64]:
            found = sample_values(columns, score)
            if found is None or not np.isfinite(found).all():
                raise StageError(
                    f"{self.trial.where}: not every sample has a number for {score} in all cells; "
                    "delete their .json files and evaluate again"
                )
            return found[rows]

        return Outcomes(np.array([[values(*cell) for cell in seeds] for seeds in side]))

    def _flips(self, storage: Storage) -> tuple[ClassFlips, ...]:
        """None where no class is predicted."""
        if hits(self.first) is None:
            return ()
        a, b = (
            np.array([[_hits(*cell) for cell in seeds] for seeds in side])
            for side in (self.a, self.b)
        )
        is_same = self.question.a.run_names == self.question.b.run_names
        gained, lost = (only_right(*pair, is_same_runs=is_same) for pair in ((a, b), (b, a)))
        labels = self.first["label"]
        classes = _class_names(storage, self.trial.planned.trial.test, labels)
        return class_flips(labels, gained, lost, classes)

    def _notes(self, score: str, sides: tuple[Outcomes, Outcomes], clusters: Rows) -> Iterator[str]:
        count = int(clusters.max()) + 1
        main = self.scores[0].name
        if score != main and sample_values(self.first, main) is None:
            yield f"{main} says nothing of single samples: compared by {score}"
        if count == 1:
            yield ONE_SEQUENCE
        elif count < FEWEST_CLUSTERS:
            yield f"{count} samples or groups are too few to tell anything apart"
        if count < len(clusters):
            yield f"{len(clusters)} rows of {count} samples or groups, which vary as a whole"
        for name, outcomes, side in zip(
            "AB", sides, (self.question.a, self.question.b), strict=True
        ):
            stored = self._stored(side, score)
            if abs(stored - float(outcomes.values.mean())) > _EQUAL:
                yield f"{name}'s own {score} is {stored:.4g}, weighted otherwise than by samples"

    def _stored(self, side: Side, score: str) -> float:
        """The score as its cells have it: mean over runs and seeds."""
        records = (
            self.trial.record(member, seed) for member in side.members for seed in self.trial.seeds
        )
        return float(
            np.mean([one.value for record in records for one in record.scores if one.name == score])
        )


def _hits(columns: Columns, rows: Rows) -> npt.NDArray[np.float64]:
    found = hits(columns)
    assert found is not None, "cells of one trial have the same columns"
    return found[rows]


def _class_names(storage: Storage, ref: DatasetRef, labels: Sequence[int]) -> Sequence[str]:
    """Of all labels; their numbers, where the dataset has been deleted."""
    try:
        names: Sequence[str] = read_json(storage, ref.manifest_key)["classes"]
    except FileNotFoundError:
        return [str(number) for number in range(max(labels) + 1)]
    return names
