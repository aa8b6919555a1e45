"""What is kept of followed objects: scores, masks and tables in the layout of DAVIS, overlays."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from sigma_pipeline.jobs.benchmarks.benchmark import Result, Score
from sigma_pipeline.jobs.benchmarks.davis_metrics import Ids, ObjectScores, sequence_scores
from sigma_pipeline.jobs.benchmarks.figures import Overlay
from sigma_pipeline.jobs.benchmarks.intervals import ONE_SEQUENCE, bootstrap_interval
from sigma_pipeline.jobs.benchmarks.sequences import AnnotatedSequence, UselessSequence
from sigma_pipeline.jobs.vos_results import palette_png, results_csv

PREDICTIONS = "predictions"
"""Folder of the masks, among the files of a cell."""
_SHOWN_SEQUENCES = 4
_NUMBERS: Mapping[str, Callable[[ObjectScores], float]] = {
    "jf_mean": lambda one: (one.j.mean + one.f.mean) / 2,
    "j_mean": lambda one: one.j.mean,
    "j_recall": lambda one: one.j.recall,
    "j_decay": lambda one: one.j.decay,
    "f_mean": lambda one: one.f.mean,
    "f_recall": lambda one: one.f.recall,
    "f_decay": lambda one: one.f.decay,
}
"""Of an object, by the name of the score that is their mean."""


class DavisFindings:
    """Grows sequence by sequence."""

    def __init__(self) -> None:
        self._scored: dict[str, list[ObjectScores]] = {}
        self._keys: dict[str, str] = {}
        self._files: dict[str, bytes] = {}
        self._overlays: list[Overlay] = []
        self._remarks: defaultdict[str, list[str]] = defaultdict(list)
        self._sequences = 0

    def leave_out(self, sequence: UselessSequence) -> None:
        """Notes that nothing can be scored there."""
        self._sequences += 1
        self._remarks[f"{sequence.reason}: left out"].append(sequence.name)

    def add(self, sequence: AnnotatedSequence, ids: Ids) -> None:
        """Scores and keeps the objects ``ids`` [frames, height, width] of ``sequence.frames``.

        Masks are named by the number of their frame, which counts from 0: DAVIS's own names. Files
        of datasets that count otherwise (YouTube-VOS: 00000, 00005) have other names.
        """
        self._sequences += 1
        frames, name = sequence.frames, sequence.name
        predicted = ids[np.array(sequence.annotated) - frames.start]
        self._scored[name] = sequence_scores(predicted, sequence.truth)
        self._keys[name] = sequence.key
        for frame, mask in zip(frames, ids, strict=True):
            self._files[f"{PREDICTIONS}/{name}/{frame:05d}.png"] = palette_png(mask)
        if len(self._overlays) < _SHOWN_SEQUENCES:
            overlay = Overlay(sequence.key, "propagated", list(frames), ids, is_whole_frame=True)
            self._overlays.append(overlay)
        if frames.start:
            self._remarks["have their first mask late: followed from there on"].append(name)
        if len(sequence.annotated) < len(frames):
            self._remarks["have masks on some frames only: those are scored"].append(name)

    def result(self, seed: int) -> Result:
        """Means over all objects, and a row for each of them.

        Intervals are of other sequences: objects of one sequence come, and fare, together.

        Raises:
            ValueError: no sequence could be scored.
        """
        if not self._scored:
            raise ValueError(f"no sequence can be scored: {'; '.join(self._notes())}")
        rows: list[dict[str, Any]] = [
            {"key": self._keys[sequence], "object": one.object_id}
            | {name: number(one) for name, number in _NUMBERS.items()}
            for sequence, objects in self._scored.items()
            for one in objects
        ]
        outcomes = {column: [row[column] for row in rows] for column in rows[0]}
        scores = tuple(_mean(name, outcomes[name], outcomes["key"], seed) for name in _NUMBERS)
        notes = self._notes() if len(self._scored) > 1 else (*self._notes(), ONE_SEQUENCE)
        files = {**self._files, **results_csv(self._scored)}
        return Result(scores, outcomes, notes, files, tuple(self._overlays))

    def _notes(self) -> tuple[str, ...]:
        return tuple(
            f"{len(names)} of {self._sequences} sequences {remark} ({names[0]} first)"
            for remark, names in self._remarks.items()
        )


def _mean(name: str, values: Sequence[float], sequences: Sequence[str], seed: int) -> Score:
    low, high = bootstrap_interval(values, seed, sequences)
    is_loss = name.endswith("_decay")
    return Score(name, fmean(values), "fraction", not is_loss, low, high, len(values))
