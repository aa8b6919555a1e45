"""Counts against the true ones: scores, outcomes, and which videos are worth a look."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from sigma_pipeline.jobs.benchmarks.benchmark import Result, Score
from sigma_pipeline.jobs.benchmarks.figures import Counts
from sigma_pipeline.jobs.benchmarks.intervals import bootstrap_interval, exact_interval


def relative_errors(true: Sequence[int], predicted: Sequence[int]) -> list[float]:
    """How far each count is off, over the true one."""
    return [abs(guess - count) / count for count, guess in zip(true, predicted, strict=True)]


def counting_result(
    keys: Sequence[str], true: Sequence[int], predicted: Sequence[int], notes: Sequence[str]
) -> Result:
    """MAE as SEVERE has it, relative to the true count, and OBO: at most one too many or too few.

    Args:
        keys: of the videos.
        true: how many cycles each has.
        predicted: how many were counted.
        notes: remarks.
    """
    errors = relative_errors(true, predicted)
    is_close = [abs(guess - count) <= 1 for count, guess in zip(true, predicted, strict=True)]
    mae = Score(
        "mae", fmean(errors), "fraction", False, *bootstrap_interval(errors, 0), len(errors)
    )
    share = exact_interval(sum(is_close), len(is_close))
    obo = Score("obo", fmean(is_close), "fraction", True, *share, len(is_close))
    outcomes: dict[str, Sequence[Any]] = {
        "key": list(keys),
        "count": list(true),
        "prediction": list(predicted),
        "mae": errors,
        "obo": is_close,
    }
    return Result(
        (mae, obo), outcomes, tuple(notes), figures=(Counts(list(true), list(predicted)),)
    )


def mean_count_note(trained: Sequence[int], true: Sequence[int]) -> str:
    """What one would get who says the same of every video, to hold scores against."""
    always = round(fmean(trained))
    errors = relative_errors(true, [always] * len(true))
    return (
        f"who always says {always}, the mean count of the training split, has an mae of "
        f"{fmean(errors):.3f}"
    )


def shown_videos(errors: Sequence[float], wanted: int) -> list[int]:
    """Some of the videos, from the best counted to the worst."""
    order = np.argsort(errors, kind="stable")
    places = np.linspace(0, len(order) - 1, min(wanted, len(order))).round().astype(int)
    return [int(order[place]) for place in places]
