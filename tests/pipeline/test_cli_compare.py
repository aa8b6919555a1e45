"""``compare``: what it prints, keeps and ends with."""

import errno
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from sigma_pipeline.infra.journal import Journal, read_entries
from sigma_pipeline.infra.storage import Storage, open_storage, write_json
from sigma_pipeline.pipeline.cli import cli
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.science import training_settings
from tests.compared_runs import add_commit, add_run, ask_for, planned

GOOD = np.arange(60) % 10 < 8
BAD = np.arange(60) % 10 < 4
Compare = Callable[..., Result]


def fails(*of: Any) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.fixture
def storage(config: PipelineConfig) -> Storage:
    """Runs ``s0`` and ``s1`` of one recipe, ``other`` of another: untrained, and at step 40."""
    storage = open_storage(config.root_uri)
    for run_name, trained in {"s0": GOOD, "s1": BAD, "other": BAD}.items():
        add_run(storage, run_name, {0: BAD, 40: trained}, planned())
        settings = training_settings(config, "v1") | {"seed": run_name}
        if run_name == "other":
            settings["model"] = {**settings["model"], "mask_ratio": 0.5}
        write_json(storage, f"runs/{run_name}/train/settings.json", settings)
    return storage


@pytest.fixture
def compare(storage: Storage, recipe_path: str, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """The command, without MLflow."""
    told: list[Any] = []
    monkeypatch.setattr(
        "sigma_pipeline.pipeline.tracked_run.update_tracking", lambda *of: told.append(of)
    )

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, ["compare", *words, "--config", recipe_path])

    return run


def test_a_trained_encoder_and_its_untrained_self_are_told_apart(compare: Compare) -> None:
    result = compare("s0", "s0@untrained")

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == ["A: s0 (step 40)", "B: s0 (untrained)"]
    assert "not of their recipes" in lines[2]
    assert (
        "knn on demo  top1   0.8000  0.4000  +0.4000  +0.2833 to +0.5333  <0.001" in result.stdout
    )
    assert re.search(r"<0\.001 +24 / 0  better$", result.stdout, re.MULTILINE)
    assert "classes with most flips: left +8 -0, right +8 -0, round +8 -0" in result.stdout
    assert lines[-1] == "A is better than B: 5% level."


def test_two_seeds_of_one_recipe_are_not_told_apart(compare: Compare) -> None:
    seeds, recipes = compare("s0", "s1"), compare("s0", "other")
    encoders = compare("s0", "s1", "--encoders")

    assert "Two runs of one recipe" in seeds.stdout
    assert seeds.stdout.splitlines()[-1] == "A and B are not distinguishable: 5% level."
    assert "of these very encoders, p <0.001" in seeds.stdout
    assert recipes.stdout.splitlines()[-1] == "A is better than B: 5% level."
    assert encoders.stdout.splitlines()[-1] == "A is better than B: 5% level."


def test_files_are_kept_beside_the_scores_and_named_in_the_journal_once(
    compare: Compare, storage: Storage, tmp_path: Path
) -> None:
    first = compare("s0", "other", "--out", str(tmp_path / "out"))
    compare("s0", "other")

    kept = storage.list("runs/s0/evaluate/compare")
    folder = kept[0].rpartition("/")[0]
    assert [key.rpartition("/")[2] for key in kept] == [
        "compare.json",
        "compare.md",
        "flips-knn-demo.png",
    ]
    assert f"Kept in {storage.uri(folder)}" in first.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "compare.json",
        "compare.md",
        "flips-knn-demo.png",
    ]
    assert "![flips of classes](flips-knn-demo.png)" in storage.read(kept[1]).decode()
    with Image.open(tmp_path / "out" / "flips-knn-demo.png") as picture:
        assert picture.width > 400
    entries, _ = read_entries(storage, "s0")
    named = [entry.fields["name"] for entry in entries if entry.kind == "artifact"]
    assert named == [
        f"compare/{folder.partition('/compare/')[2]}/{name}"
        for name in ("compare.json", "compare.md", "flips-knn-demo.png")
    ]


def test_other_questions_about_the_same_encoders_have_names_of_their_own(
    compare: Compare, storage: Storage
) -> None:
    compare("s0", "other")
    compare("s0", "other", "--margin", "0.1")

    entries, _ = read_entries(storage, "s0")
    named = [entry.fields["name"] for entry in entries if entry.kind == "artifact"]
    assert len(set(named)) == len(named) == 6


def test_a_comparison_whose_keeping_was_cut_off_is_told_when_asked_again(
    compare: Compare, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "close", fails)
        compare("s0", "other")
    assert not [key for key in storage.list("runs/s0/evaluate/compare") if key.endswith(".json")]

    compare("s0", "other")

    entries, _ = read_entries(storage, "s0")
    assert [entry.kind for entry in entries].count("artifact") == 3


def test_an_answer_that_cannot_be_kept_is_given_all_the_same(
    compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "close", fails)

    met, missed = (
        compare(*sides, "--require", "better") for sides in (("s0", "s0@0"), ("s0@0", "s0"))
    )

    assert (met.exit_code, missed.exit_code) == (0, 4)
    assert met.stdout.splitlines()[-1] == "A is better than B: 5% level."
    assert "warning: not kept in" in met.stderr
    assert "Read-only file system" in met.stderr


def test_json_is_for_programs(compare: Compare) -> None:
    found = json.loads(compare("s0", "s0@0", "--json").stdout)

    assert (found["overall"], found["about"], found["a"]) == (
        "better",
        "encoders",
        ["s0 (step 40)"],
    )
    (trial,) = found["trials"]
    assert trial["p_value"] == trial["p_adjusted"] or trial["p_value"] < trial["p_adjusted"] < 0.001
    assert trial["flips"][0] == {"name": "left", "samples": 20, "gained": 8.0, "lost": 0.0}


@pytest.mark.parametrize(
    ("words", "exit_status", "said"),
    [
        (("s0", "s0@0", "--require", "better"), 0, ""),
        (("s0@0", "s0", "--require", "better"), 4, "--require better is not met: A is worse"),
        (("s0@0", "s0", "--require", "not-worse"), 4, "--require not-worse is not met"),
        (("s1", "other", "--require", "not-worse"), 0, ""),
        (("s1", "other", "--require", "better"), 4, "A is not distinguishable in all"),
        (("s0", "s0@0", "--require", "better", "--margin", "0.5"), 4, "with a margin of 0.5"),
        (("s0", "s0@40", "--require", "not-worse"), 2, "nothing is compared with itself"),
        (("s0", "s0@0", "--encoders"), 0, ""),
        (("s0", "s0@0", "--margin", "nan"), 2, "nan is no finite number"),
        (("s0", "s0@0", "--margin", "inf"), 2, "inf is no finite number"),
        (("s0", "nobody"), 3, "run 'nobody' has no commit in"),
        (("s0", "s1@"), 2, "names no encoder"),
        (("s0,other", "s1"), 2, "other was trained with other settings than s0"),
        (("s0", "other", "--by", "top1"), 2, "is not BENCHMARK/DATASET/SCORE"),
    ],
)
def test_exit_statuses(
    compare: Compare, words: tuple[str, ...], exit_status: int, said: str
) -> None:
    result = compare(*words)

    assert result.exit_code == exit_status, result.output
    assert said in result.stderr


def test_missing_cells_come_with_the_command_that_makes_them(
    compare: Compare, storage: Storage
) -> None:
    add_commit(storage, "s0", 80)

    result = compare("s0@80", "s0@40")

    assert result.exit_code == 3
    assert (
        "nothing to compare: knn on demo: s0 (step 80) has no scores with seed 0" in result.stderr
    )
    recipe = storage.uri("runs/s0/config.yaml")
    assert f"sigma-pipeline run --stage evaluate --config {recipe}" in result.stderr


def test_a_gate_is_not_passed_by_what_was_not_measured(compare: Compare, storage: Storage) -> None:
    ask_for(storage, "s0", planned(), planned("linear"))

    plain, gate = compare("s0", "s0@0"), compare("s0", "s0@0", "--require", "better")
    named = compare("s0", "s0@0", "--require", "better", "--by", "knn/demo/top1")

    assert (plain.exit_code, gate.exit_code, named.exit_code) == (0, 3, 0)
    assert "linear on demo is not compared" in plain.stdout
    assert "--require better is not answered: linear on demo" in gate.stderr
