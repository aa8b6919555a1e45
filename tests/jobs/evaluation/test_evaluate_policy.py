"""Which commits a benchmark takes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.benchmark import Cost
from sigma_pipeline.jobs.best_by import BestBy
from sigma_pipeline.jobs.config import CellConfig, EvaluateConfig
from sigma_pipeline.jobs.evaluate_policy import (
    chosen_steps,
    describe_choice,
    ranking_trial,
    skip_unranked,
)
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.planned_trials import PlannedTrial

MakeRequest = Callable[..., EvaluateRequest]
BY = BestBy("knn", "squares", "top1")


@pytest.fixture
def planned(storage: Storage, make_request: MakeRequest) -> Callable[..., PlannedTrial]:
    """A trial of k-NN with these changes."""
    trial = plan_grid(storage, make_request({"benchmark": "knn"})).trials[0]

    def make(cost: Cost = "cheap", **changes: Any) -> PlannedTrial:
        return replace(trial, cost=cost, **changes)

    return make


@pytest.mark.parametrize(
    ("cost", "wish", "while_training", "in_the_end", "words"),
    [
        ("cheap", {}, range(6), range(6), "every commit"),
        ("cheap", {"every": 2}, [0, 2, 4], [0, 2, 4, 5], "one of 2 commits, and the last"),
        ("cheap", {"every": 9}, [0], [0, 5], "one of 9 commits, and the last"),
        ("dear", {}, [], [5], "the last commit"),
        ("dear", {"every": 5}, [0, 5], [0, 5], "one of 5 commits, and the last"),
        ("dear", {"best": 2}, [], [], "the 2 best commits by knn/squares/top1"),
        ("cheap", {"best": 1}, [], [], "the best commit by knn/squares/top1"),
    ],
)
def test_each_kind_of_cell_takes_its_commits(
    planned: Callable[..., PlannedTrial],
    cost: Cost,
    wish: dict[str, int],
    while_training: Sequence[int],
    in_the_end: Sequence[int],
    words: str,
) -> None:
    one = planned(cost, **wish)

    def chosen(*, is_final: bool) -> list[int]:
        numbers = dict(enumerate(range(6)))
        return chosen_steps(range(6), one, numbers=numbers, is_final=is_final)

    assert chosen(is_final=False) == [*while_training]
    assert chosen(is_final=True) == [*in_the_end]
    assert describe_choice(one, cost, str(BY)) == words


@pytest.mark.parametrize(
    ("best_by", "cells", "message"),
    [
        (None, [{"best": 1}], r"cells\.0\.best=1 needs best_by"),
        ("top1", [{}], "is not benchmark/dataset/score; it may be knn/set/<score>"),
        ("knn//top1", [{}], "is not benchmark/dataset/score"),
        ("knn/other/top1", [{}], "names no cell; it may be knn/set/<score>"),
        ("knn/set/top1", [{"best": 2}], "waits for the best commits itself"),
    ],
)
def test_a_ranking_that_cannot_be_is_refused_with_what_there_is(
    best_by: str | None, cells: list[dict[str, Any]], message: str
) -> None:
    made = tuple(CellConfig(benchmark="knn", dataset="set", **cell) for cell in cells)

    with pytest.raises(ValidationError, match=message):
        EvaluateConfig(cells=made, best_by=best_by)


def test_the_ranking_trial_is_found_by_its_label_or_by_its_benchmark(
    planned: Callable[..., PlannedTrial],
) -> None:
    first, marked = planned(), planned(label="knn-0a1b2c")
    waiting = planned(label="knn-ffffff", best=1)

    assert ranking_trial([waiting, marked, first], BY) is first
    assert ranking_trial([waiting, marked], BY) is marked  # an earlier recipe took the label
    with pytest.raises(ConfigError, match="knn-0a1b2c/squares/<score>"):
        ranking_trial([marked, planned(label="knn-9f9f9f")], BY)


def test_cells_for_the_best_are_skipped_where_the_ranking_is(
    planned: Callable[..., PlannedTrial],
) -> None:
    unlabelled, waiting = planned(skipped="no labels"), planned("dear", label="linear", best=2)

    skipped = skip_unranked([unlabelled, waiting], str(BY))

    assert skipped[0].skipped == "no labels"
    assert skipped[1].skipped == (
        "evaluate.best_by=knn/squares/top1 ranks no commits, as its cell is skipped (no labels); "
        "set it to a score of another cell"
    )
    assert skip_unranked([planned(), waiting], str(BY))[1].skipped is None
