"""How far an evaluation is, and how long it still takes."""

from typing import Any

import pytest

from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.evaluation_progress import (
    TrialProgress,
    count_missing,
    describe_counts,
    describe_grid,
)

TWO_CPUS = EvaluateLaunchConfig(cpus=2)


def trial(label: str, **changes: Any) -> TrialProgress:
    counts = {"done": 0, "failed": 0, "skipped": 0, "missing": 0, "cell_s": None}
    settings: dict[str, Any] = {"label": label, "dataset": "clips", "limits": TaskLimits()}
    return TrialProgress(**{**settings, **counts, **changes})


@pytest.mark.parametrize(
    ("trials", "launch", "left"),
    [
        ([trial("knn", missing=6, cell_s=10)], TWO_CPUS, "0 min 30 s"),
        (
            [trial("knn", missing=1, cell_s=10)],
            TWO_CPUS,
            "0 min 10 s",
        ),  # one cell is not cut in two
        ([trial("knn", missing=6, cell_s=10)], EvaluateLaunchConfig(cpus=2, nodes=3), "0 min 10 s"),
        (
            [trial("knn", missing=8, cell_s=10, limits=TaskLimits(cpus=0.25, gpus=0.5))],
            EvaluateLaunchConfig(cpus=2, gpus=1),
            "0 min 40 s",  # the GPU holds two at a time
        ),
        (
            [trial("finetune", missing=3, cell_s=10, limits=TaskLimits(gpus=1, processes=4))],
            EvaluateLaunchConfig(cpus=8, gpus=8),
            "0 min 15 s",
        ),
        ([trial("knn", done=5, cell_s=10)], TWO_CPUS, None),
    ],
)
def test_the_time_left_is_that_of_the_cells_done_over_the_slots(
    trials: list[TrialProgress], launch: EvaluateLaunchConfig, left: str | None
) -> None:
    lines = list(describe_grid(trials, launch))

    assert lines[1:] == ([] if left is None else [f"about {left} left"])


def test_cells_whose_time_is_not_known_are_named() -> None:
    known, unknown = trial("knn", missing=4, cell_s=60), trial("linear", missing=1)

    assert list(describe_grid([known, unknown], TWO_CPUS))[2:] == [
        "about 2 min 00 s left, linear on clips not counted: none is done yet"
    ]
    assert list(describe_grid([unknown], TWO_CPUS))[1:] == [
        "time left is not known, linear on clips not counted: none is done yet"
    ]


def test_cells_are_counted_by_trial_and_together() -> None:
    trials = [
        trial("knn", done=2, failed=1, missing=3, cell_s=4),
        trial("linear", done=1, skipped=2),
        trial("uvos", is_impossible=True),
    ]

    assert list(describe_grid(trials, TWO_CPUS)) == [
        "knn on clips: 2 done, 1 failed, 3 missing",
        "linear on clips: 1 done, 0 failed, 0 missing, 2 skipped",
        "uvos on clips: skipped",
        "about 0 min 06 s left",
    ]
    assert count_missing(trials) == 3
    counted = describe_counts(trials, TWO_CPUS)
    assert counted == "3 cells done, 1 failed, 3 missing; about 0 min 06 s left"
