"""What is said of followed objects, from masks made up."""

import numpy as np
import numpy.typing as npt

from sigma_pipeline.jobs.benchmarks.davis_result import DavisFindings
from sigma_pipeline.jobs.benchmarks.sequences import AnnotatedSequence

BARS = np.repeat(np.arange(6, dtype=np.uint8) + 1, 4)


def sequence(name: str, truth: npt.NDArray[np.uint8]) -> AnnotatedSequence:
    frames = range(len(truth))
    return AnnotatedSequence(0, f"key-{name}", name, frames, frames, truth)


def test_intervals_are_of_other_sequences_and_not_of_other_objects() -> None:
    six = np.broadcast_to(BARS, (4, 8, len(BARS))).copy()
    one = (six == 1).astype(np.uint8)
    findings = DavisFindings()
    findings.add(sequence("bear", six), six)
    findings.add(sequence("cows", one), np.zeros_like(one))

    result = findings.result(seed=0)

    j_mean = next(score for score in result.scores if score.name == "j_mean")
    assert (j_mean.value, j_mean.samples) == (6 / 7, 7)
    # A quarter of all draws of two sequences are of the lost object alone, and a quarter without.
    assert (j_mean.low, j_mean.high) == (0, 1)
    assert result.notes == ()
