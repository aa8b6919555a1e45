"""What a user sees and which status the command ends with."""

import logging
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from sigma_pipeline.infra.errors import (
    ConfigError,
    GateError,
    Interrupted,
    MissingInputError,
    PipelineError,
    StageError,
)
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.pipeline import cli as commands
from sigma_pipeline.pipeline import cli_control
from sigma_pipeline.pipeline.recipe_files import recipe_names


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """The command sets logging up for its own process; here that is the tests' process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def _untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without MLflow, which takes seconds to start."""
    monkeypatch.setattr("sigma_pipeline.pipeline.tracked_run.tracked", lambda *_: nullcontext())


def call(*words: str) -> Result:
    return CliRunner().invoke(commands.cli, words)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PipelineError, 1),
        (StageError, 1),
        (ConfigError, 2),
        (MissingInputError, 3),
        (GateError, 4),
        (Interrupted, 75),
    ],
)
def test_an_expected_error_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, error: type[PipelineError], status: int
) -> None:
    def fail(*_: object) -> None:
        raise error("what happened")

    monkeypatch.setattr(cli_control, "load_recipe", fail)

    result = call("status")

    assert result.exit_code == status
    assert result.stderr == "error: what happened\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(cli_control, "load_recipe", fail)

    result = call("status")

    assert isinstance(result.exception, KeyError)


def test_recipes_are_listed_with_a_line_each() -> None:
    lines = call("recipes").stdout.splitlines()

    assert [line.split()[0] for line in lines] == recipe_names()
    assert all(len(line.split()) > 4 for line in lines)


def test_a_recipe_is_shown_as_it_is_written() -> None:
    shown = call("recipes", "demo").stdout

    assert shown.startswith("# ")
    assert yaml.safe_load(shown)["run_name"] == "demo"


RENDERED, WITHOUT_SOURCE, WITHOUT_TEACHER = 0, 3, 2


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_dry_runs_without_touching_the_store(name: str, tmp_path: Path) -> None:
    result = call("run", "--config", name, "--dry-run", "--set", f"root_uri={tmp_path / 'store'}")

    without = WITHOUT_TEACHER if name.endswith("_dino") else WITHOUT_SOURCE
    assert result.exit_code == (RENDERED if name.startswith("demo") else without)
    assert yaml.safe_load(result.stdout)["run_name"] == name
    assert "parameters" in result.stdout
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["ssv2_vit_b_dino", "ssv2_vit_s_dino", "k400_vit_b_dino"])
def test_training_without_the_teachers_weights_is_refused_before_anything_starts(
    name: str, tmp_path: Path
) -> None:
    result = call("run", "--config", name, "--set", f"root_uri={tmp_path / 'store'}")

    assert result.exit_code == 2
    assert result.stderr.startswith("error: model.target.teacher_weights=")
    assert open_storage(str(tmp_path / "store")).list("") == []


@pytest.mark.usefixtures("_untracked")
@pytest.mark.parametrize(
    "words",
    [
        ("--stage", "train"),
        ("--stage", "evaluate"),
        ("--set", "shard.source=/nowhere"),
        ("--stage", "train", "--config", "ssv2_vit_b_dino"),
        ("--set", "evaluate.cells.0.settings.kk=3"),
    ],
)
def test_a_dry_run_ends_as_the_run_does(words: tuple[str, ...], tmp_path: Path) -> None:
    recipe = () if "--config" in words else ("--config", "demo")
    options = (*words, *recipe, "--set", f"root_uri={tmp_path / 'store'}")

    dry, real = call("run", "--dry-run", *options), call("run", *options)

    assert dry.exit_code == real.exit_code != 0
    assert dry.stderr == real.stderr.splitlines(keepends=True)[-1]
    assert f"cannot run: {dry.stderr.removeprefix('error: ')}" in dry.stdout
    assert yaml.safe_load(dry.stdout)["root_uri"] == str(tmp_path / "store")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--stage", "shard", "--follow"), "--follow goes with --stage evaluate"),
        (("--stage", "train", "--force"), "--force goes with --stage shard"),
        (("--set", "train.epochs=0"), "train.epochs: input should be greater than 0 (got 0)"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_what_is_wrong(
    words: tuple[str, ...], sentence: str
) -> None:
    result = call("run", "--config", "demo", *words)

    assert result.exit_code == 2
    assert sentence in result.stderr


@pytest.mark.usefixtures("_untracked")
def test_a_missing_source_ends_with_3(tmp_path: Path) -> None:
    settings = (f"root_uri={tmp_path / 'store'}", f"shard.source={tmp_path / 'nowhere'}")
    options = [word for setting in settings for word in ("--set", setting)]

    result = call("run", "--stage", "shard", "--config", "demo", *options)

    assert result.exit_code == 3
    assert "nowhere" in result.stderr


@pytest.mark.usefixtures("_untracked")
def test_training_before_sharding_ends_with_3_and_names_the_command(tmp_path: Path) -> None:
    options = ("--config", "demo", "--set", f"root_uri={tmp_path / 'store'}")

    result = call("run", "--stage", "train", *options)

    assert result.exit_code == 3
    assert "sigma-pipeline run --stage shard" in result.stderr


def test_without_config_the_demo_is_meant_and_said(tmp_path: Path) -> None:
    result = call("status", "--set", f"root_uri={tmp_path / 'store'}")

    assert result.exit_code == 0
    assert "No --config given: the recipe is 'demo'." in result.stderr
    assert "demo/train: not there yet" in result.stdout
    assert "train     not begun" in result.stdout


def test_the_dashboard_of_a_run_that_never_was_names_the_command_to_start_it(
    tmp_path: Path,
) -> None:
    result = call("dashboard", "--config", "demo", "--set", f"root_uri={tmp_path / 'store'}")

    assert result.exit_code == 3
    assert "start it with sigma-pipeline run" in result.stderr


def test_the_line_that_opens_the_dashboard_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/sigma-pipeline"])
    overrides = ("root_uri=/my store", "train.epochs=3", "run_name=other")

    line = commands._dashboard_command("demo", overrides)

    assert line == (
        ".venv/bin/sigma-pipeline dashboard --config demo --set 'root_uri=/my store' "
        "--set run_name=other"
    )
