"""``benchmarks severe`` and ``benchmarks few``, and the same at the end of ``status``."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.commits import list_commits
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.planned_trials import PlannedTrial, record_grid
from sigma_pipeline.pipeline.cli import cli
from sigma_pipeline.pipeline.services import Services
from tests.jobs.severe_cells import (
    SIGMA_DINO,
    finish,
    make_trial,
    plan,
    plan_column,
    put_dataset,
    put_official,
    scored,
)

OWN = ["70.9", "89.7", "84.1", "28.0", "55.1", "79.9", "0.169", "23.3", "64.3"]


@pytest.fixture
def storage(services: Services) -> Storage:
    return services.storage


def called(recipe_path: str, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words, "--config", recipe_path])


def finish_columns(storage: Storage, trials: list[PlannedTrial]) -> None:
    """A record for each trial, with SIGMA-DINO's number of its column."""
    record_grid(storage, "trial", trials)
    source = committed_encoder(list_commits(storage, "trial")[-1])
    for planned in trials:
        assert planned.column is not None
        cells = planned.cells("trial", source)
        finish(storage, cells[0], *scored(planned.column, SIGMA_DINO[planned.column]).scores)


def test_a_run_stands_beside_the_published_rows(
    storage: Storage, commit: Callable[[int], None], recipe_path: str
) -> None:
    commit(40)
    put_official(storage, SIGMA_DINO)
    finish_columns(storage, [plan_column(name) for name in SIGMA_DINO])

    result = called(recipe_path, "benchmarks", "severe")

    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["SIGMA-DINO", *OWN] in lines
    assert ["trial,", "step", "40", *OWN] in lines
    assert "absent" not in result.stdout


def test_stand_ins_stand_apart_and_give_no_mean(
    storage: Storage, commit: Callable[[int], None], recipe_path: str
) -> None:
    commit(40)
    put_official(storage, {"ssv2": 0.0})
    put_dataset(storage, "actions", classes=10, train=60, test=40)
    finish_columns(storage, [plan_column("ssv2"), plan_column("gym99", "actions")])

    result = called(recipe_path, "benchmarks", "severe")

    lines = result.stdout.splitlines()
    assert ["trial,", "step", "40", "70.9", *["-"] * 8] in [line.split() for line in lines]
    assert lines[lines.index("stand-ins       actions for Gym99") + 1].split()[-1] == "89.7"
    said = "actions/train has 60 samples of 10 classes, where Gym99 of FineGym v1.0 has 20484 of 99"
    assert f"actions only stands in for Gym99: {said}" in lines
    assert "Charades is absent: no cell of the recipe fills it" in lines


def test_status_ends_with_both_tables(
    storage: Storage, commit: Callable[[int], None], recipe_path: str
) -> None:
    commit(40)
    put_official(storage, SIGMA_DINO)
    few = [plan(make_trial("ssv2", "knn", size)) for size in (10, 100)]
    columns = [plan_column(name) for name in SIGMA_DINO]
    finish_columns(storage, columns)
    record_grid(storage, "trial", [*columns, *few])
    source = committed_encoder(list_commits(storage, "trial")[-1])
    for planned, value in zip(few, (0.25, 0.5), strict=True):
        (cell,) = planned.cells("trial", source)
        finish(storage, cell, Score("top1", value, "fraction", True, value, value, 9))

    result = called(recipe_path, "status")

    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["trial,", "step", "40", *OWN] in lines
    assert ["knn", "on", "ssv2,", "top1", "10", "100"] in lines
    assert ["step", "40", "0.250", "0.500"] in lines
    alone = called(recipe_path, "benchmarks", "few").stdout.splitlines()
    assert alone[1].split() == ["step", "40", "0.250", "0.500"]
    assert alone[-1].startswith("Of one seed each")


def test_before_the_first_evaluation_there_are_published_rows_and_what_is_missing(
    recipe_path: str, recipe_values: dict[str, Any]
) -> None:
    cell = {"benchmark": "finetune", "dataset": "clips", "column": "ssv2"}
    with open(recipe_path, "w") as file:
        yaml.safe_dump(recipe_values | {"evaluate": {"cells": [cell]}}, file)

    result = called(recipe_path, "benchmarks", "severe")

    assert result.exit_code == 0, result.output
    assert ["SIGMA-DINO", *OWN] in [line.split() for line in result.stdout.splitlines()]
    assert "SSv2 is absent: dataset 'clips' is not sharded" in result.stdout
    assert "Gym99 is absent: no cell of the recipe fills it" in result.stdout


@pytest.mark.parametrize(
    ("command", "exit_status", "advice"),
    [("severe", 2, "take --config severe"), ("few", 3, "takes several sizes or seeds")],
)
def test_without_anything_to_show_the_way_there_is_told(
    recipe_path: str, command: str, exit_status: int, advice: str
) -> None:
    result = called(recipe_path, "benchmarks", command)

    assert result.exit_code == exit_status
    assert advice in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_recipe_before_the_command_is_refused(recipe_path: str) -> None:
    result = CliRunner().invoke(cli, ["benchmarks", "--config", recipe_path, "severe"])

    assert result.exit_code == 2
    assert "name them after benchmarks severe" in result.stderr
