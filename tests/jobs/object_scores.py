"""Scores of objects, without masks."""

from sigma_pipeline.jobs.benchmarks.davis_metrics import Measure, ObjectScores


def scored(object_id: int, j: float, f: float) -> ObjectScores:
    """An object with the same J and F in each of two frames."""
    return ObjectScores(object_id, Measure((j, j)), Measure((f, f)))
