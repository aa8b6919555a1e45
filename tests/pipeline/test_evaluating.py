"""The evaluate stage as a recipe asks for it."""

import logging
from typing import Any

import pytest

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.evaluating import (
    check_cells,
    commit_cadences,
    preview_evaluate_stage,
    recorded_evaluation,
)
from sigma_pipeline.pipeline.services import Services

CELLS: list[dict[str, Any]] = [
    {"benchmark": "knn"},
    {"benchmark": "knn", "every": 4},
    {"benchmark": "linear_augmented"},
    {"benchmark": "linear_augmented", "every": 2},
    {"benchmark": "linear_augmented", "best": 3},
]


@pytest.fixture
def policies(recipe_values: dict[str, Any]) -> PipelineConfig:
    """Of a cell of each policy, cheap and dear."""
    dataset = next(iter(recipe_values["datasets"]))
    cells = [{"dataset": dataset, "seeds": [0, 1]} | cell for cell in CELLS]
    evaluate = {"cells": cells, "best_by": f"knn/{dataset}/top1"}
    return PipelineConfig.model_validate(recipe_values | {"evaluate": evaluate})


def test_each_cell_that_takes_commits_as_they_come_has_a_cadence(policies: PipelineConfig) -> None:
    assert list(commit_cadences(policies.evaluate)) == [1, 4, 2]


def test_the_preview_says_which_commits_each_cell_takes(policies: PipelineConfig) -> None:
    storage = open_storage(policies.root_uri)

    lines = list(preview_evaluate_stage(policies, storage))

    best_by = policies.evaluate.best_by
    assert [line.partition("2 seeds, ")[2] for line in lines[1:]] == [
        "every commit",
        "one of 4 commits, and the last",
        "the last commit",
        "one of 2 commits, and the last",
        f"the 3 best commits by {best_by}",
    ]


def test_a_rule_for_one_gpu_is_said_to_do_nothing_where_there_are_many(
    config: PipelineConfig, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    evaluate = config.launch.evaluate.model_copy(update={"gpu_sharing": "pause"})
    launch = config.launch.model_copy(update={"cluster": "slurm", "evaluate": evaluate})

    with caplog.at_level(logging.WARNING):
        request = recorded_evaluation(config.model_copy(update={"launch": launch}), services)

    assert request.launch.gpu_sharing is None
    assert "launch.evaluate.gpu_sharing=pause does nothing" in caplog.text


def test_a_budget_is_refused_where_dear_cells_take_no_gpu(recipe_values: dict[str, Any]) -> None:
    dataset = next(iter(recipe_values["datasets"]))
    cells = [
        {"dataset": dataset, "benchmark": "linear_augmented"} | changes
        for changes in ({}, {"gpus": 0}, {"gpus": 1}, {"benchmark": "knn"})
    ]
    values = recipe_values | {"evaluate": {"cells": cells, "gpu_hours": 8}}
    config = PipelineConfig.model_validate(values)

    with pytest.raises(ConfigError) as refusal:
        check_cells(config, open_storage(config.root_uri))

    first, second = str(refusal.value).split("; evaluate.gpu_hours")
    assert "does not bound evaluate.cells.0" in first
    assert "launch.evaluate.gpus_per_task=0" in first
    assert "evaluate.cells.1.gpus=0" in second


def test_a_dataset_with_one_split_is_scored_by_what_learns_from_no_labels(
    recipe_values: dict[str, Any],
) -> None:
    dataset = next(iter(recipe_values["datasets"].values()))
    datasets = recipe_values["datasets"] | {"alone": dataset | {"splits": {"val": 1.0}}}
    cells = [{"dataset": "alone", "benchmark": one} for one in ("uvos", "davis", "knn")]
    values = recipe_values | {"datasets": datasets, "evaluate": {"cells": cells}}
    config = PipelineConfig.model_validate(values)

    assert config.evaluated_splits == [("alone", "val")] * 3
    with pytest.raises(ConfigError) as refusal:
        check_cells(config, open_storage(config.root_uri))
    assert str(refusal.value) == (
        "evaluate.cells.2: knn learns from labelled examples, but dataset 'alone' has no split "
        "'train'; set train_split to one of: val"
    )
