"""``checkpoints``: weights in, listed, and out again."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from sigma_pipeline.infra.storage import open_storage, write_json
from sigma_pipeline.jobs.best_commit import BestCommit, best_key
from sigma_pipeline.jobs.commits import newest_commit, put_commit
from sigma_pipeline.jobs.pieces import Piece
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import build_sigma
from sigma_pipeline.pipeline.cli import cli

MODEL = {
    "num_frames": 4,
    "frame_size_px": 32,
    "patch_size_px": 8,
    "mask_ratio": 0.75,
    "encoder": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "decoder": {"embed_dim": 8, "depth": 1, "num_heads": 1},
    "target": {"hidden_dims": [16], "dim": 8},
    "prototypes": 12,
}


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def recipe(tmp_path: Path, recipe_values: dict[str, Any]) -> str:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe_values | {"model": MODEL}))
    return str(tmp_path / "small.yaml")


@pytest.fixture
def official(tmp_path: Path) -> str:
    state = build_sigma(ModelConfig.model_validate(MODEL), seed=1).state_dict()
    torch.save({"model": state, "epoch": 799}, tmp_path / "official.pth")
    return str(tmp_path / "official.pth")


def call(recipe: str, *words: str) -> Result:
    return CliRunner().invoke(cli, ["checkpoints", *words, "--config", recipe])


def test_an_import_is_listed_and_exported_as_it_was(
    tmp_path: Path, recipe: str, official: str
) -> None:
    imported = call(recipe, "import", official)
    listed = call(recipe, "ls")
    exported = call(recipe, "export", "--format", "official", "--out", str(tmp_path / "out.pth"))

    assert imported.exit_code == listed.exit_code == exported.exit_code == 0
    header, row = listed.output.splitlines()
    assert header.split() == ["step", "epoch", "canary", "loss", "MB", "kept", "folder"]
    assert row.split()[:5] == ["0", "0", "-", "0.1", "weights"]
    assert imported.stdout.strip().endswith(row.split()[-1])
    before = torch.load(official, weights_only=True)["model"]
    after = torch.load(tmp_path / "out.pth", weights_only=True)["model"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_ls_tells_what_is_kept_and_how_large_it_is(recipe: str, official: str) -> None:
    call(recipe, "import", official)
    storage = open_storage(yaml.safe_load(Path(recipe).read_text())["root_uri"])
    first = newest_commit(storage, "trial")
    assert first is not None
    moments = Piece("exp_avg/mask_token", 0, 250_000, "F32", "optimizer", 0, "")
    later = replace(
        first,
        step=300,
        epoch=2,
        canary_loss=4.25,
        has_optimizer=True,
        weights=(),
        optimizer=(moments,),
    )
    put_commit(storage, later)

    row = call(recipe, "ls").output.splitlines()[-1].split()

    assert row[:6] == ["300", "2", "4.2500", "1.0", "weights,", "optimizer"]


def test_a_run_without_commits_is_said_to_have_none(recipe: str) -> None:
    assert call(recipe, "ls").output == "run trial has no commits yet\n"


def test_another_run_name_takes_what_the_first_refuses(recipe: str, official: str) -> None:
    call(recipe, "import", official)

    refused = call(recipe, "import", official, "--set", "model.num_frames=8")
    taken = call(
        recipe, "import", official, "--set", "model.num_frames=8", "--set", "run_name=trial-2"
    )

    assert refused.exit_code == 2
    assert "--set run_name=trial-2" in refused.stderr
    assert taken.exit_code == 0


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("import", "missing.pth"), 3, "missing.pth is not there"),
        (("import", __file__), 2, "cannot be imported: it is no whole PyTorch file"),
        (("export", "--format", "official", "--out", "x"), 3, "run 'trial' has no commit"),
        (("replay", "7"), 3, "run 'trial' has kept nothing of step 7"),
        (
            ("export", "--format", "official", "--out", "x", "--step", "best"),
            3,
            "no best commit yet",
        ),
        (
            ("export", "--format", "official", "--out", "x", "--step", "worst"),
            2,
            "'worst' is not a",
        ),
        (
            ("export", "--format", "official", "--out", "x", "--fine-tuned", "ucf101"),
            3,
            "run 'trial' has kept no classifier fine-tuned on 'ucf101'",
        ),
        (("export", "--format", "onnx", "--out", "x"), 2, "'onnx' is not one of"),
    ],
)
def test_a_wrong_word_ends_with_a_sentence(
    recipe: str, words: tuple[str, ...], status: int, message: str
) -> None:
    result = call(recipe, *words)

    assert result.exit_code == status
    assert message in result.stderr


def test_a_file_of_another_model_is_refused_with_both_sides(recipe: str, official: str) -> None:
    result = call(recipe, "import", official, "--set", "model.encoder.depth=2")

    assert result.exit_code == 2
    assert "model.encoder.depth: recipe 2, file 1" in result.stderr


def test_an_unknown_step_is_answered_with_those_there_are(
    tmp_path: Path, recipe: str, official: str
) -> None:
    call(recipe, "import", official)
    words = ["export", "--format", "safetensors", "--step", "9", "--out", str(tmp_path / "out")]

    result = call(recipe, *words)

    assert result.exit_code == 3
    assert "no commit at step 9; it has: 0" in result.stderr


def test_the_best_commit_is_exported_by_its_mark(
    tmp_path: Path, recipe: str, recipe_values: dict[str, Any], official: str
) -> None:
    call(recipe, "import", official)
    storage = open_storage(recipe_values["root_uri"])
    commit = newest_commit(storage, "trial")
    assert commit is not None
    best = BestCommit("knn/demo/top1", 0, 0.5, commit.weights_sha256, commit.attempt)
    write_json(storage, best_key("trial"), asdict(best))
    put_commit(storage, replace(commit, step=9, weights_sha256="0" * 64))  # newer, and worse

    out = tmp_path / "best.safetensors"
    result = call(recipe, "export", "--format", "safetensors", "--step", "best", "--out", str(out))

    assert result.exit_code == 0
    assert out.exists()
