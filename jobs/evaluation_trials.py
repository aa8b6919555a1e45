"""What became of the cells that one evaluation has planned."""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Literal

from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.jobs.evaluation_progress import TrialProgress
from sigma_pipeline.jobs.planned_trials import PlannedTrial

End = Literal["done", "failed", "skipped"]


class PlannedCells:
    """Cells by their keys: of which encoder and trial they are, and whether they have ended."""

    def __init__(self, trials: Sequence[PlannedTrial]) -> None:
        self._trials = trials
        self._planned: dict[str, tuple[EncoderSource, PlannedTrial]] = {}
        self._taken: set[tuple[object, ...]] = set()
        self._ends: dict[str, End] = {}
        self._times: dict[tuple[str, str], tuple[PlannedTrial, float]] = {}

    def is_taken(self, source: EncoderSource, planned: PlannedTrial) -> bool:
        """Whether the cells of a trial on one encoder were added, or needed not be."""
        return _name(source, planned) in self._taken

    def add(self, source: EncoderSource, planned: PlannedTrial, keys: Iterable[str]) -> None:
        """Takes in those cells of a trial on one encoder that are to be made."""
        self._taken.add(_name(source, planned))
        self._planned.update((key, (source, planned)) for key in keys)

    def find(self, key: str) -> tuple[EncoderSource, PlannedTrial] | None:
        """Of which encoder and trial the cell at ``key`` is; None where that is no planned cell."""
        return self._planned.get(key)

    def end(self, key: str, end: End) -> None:
        """Takes note of how a cell ended."""
        self._ends[key] = end

    def note_time(self, source: EncoderSource, planned: PlannedTrial, seconds: float) -> None:
        """Takes note of what all seeds of a trial on one encoder took; made now or long ago."""
        self._times[source.name, planned.trial.fingerprint] = planned, seconds

    def is_waited_for(self, planned: PlannedTrial) -> bool:
        """Whether any cell of a trial is still to be made."""
        return any(
            key not in self._ends for key, (_, trial) in self._planned.items() if trial is planned
        )

    def progress(self) -> list[TrialProgress]:
        """How far each trial is, a cell of a seed counted as one."""
        return [self._progress(planned) for planned in self._trials]

    def _progress(self, planned: PlannedTrial) -> TrialProgress:
        keys = [key for key, (_, trial) in self._planned.items() if trial is planned]
        ends = Counter(self._ends.get(key, "missing") for key in keys)
        times = [seconds for trial, seconds in self._times.values() if trial is planned]
        return TrialProgress(
            label=planned.label,
            dataset=planned.trial.dataset,
            done=ends["done"],
            failed=ends["failed"],
            skipped=ends["skipped"],
            missing=ends["missing"],
            cell_s=fmean(times) / len(planned.seeds) if times else None,
            limits=planned.limits,
            is_impossible=planned.skipped is not None,
        )


def _name(source: EncoderSource, planned: PlannedTrial) -> tuple[object, ...]:
    return source.weights_key, planned.label, planned.trial.dataset, planned.seeds
