"""A commit exists when its commit.json does, and says truthfully what can be resumed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage, read_json, write_json
from sigma_pipeline.jobs.checkpoints import write_weights
from sigma_pipeline.jobs.commits import (
    Commit,
    commit_prefix,
    drop_old_optimizer_states,
    list_commits,
    load_weights,
    newest_commit,
    put_commit,
)
from sigma_pipeline.jobs.pieces import write_pieces


def make_commit(storage: Storage, folder: Path, step: int, attempt: str = "a") -> Commit:
    prefix = commit_prefix("run", step, attempt)
    weights, sha256 = write_weights(
        torch.nn.Linear(step + 1, 2).state_dict(), storage, prefix, folder
    )
    file = "optimizer-00000-of-00001.safetensors"
    optimizer = write_pieces(folder / file, {"exp_avg/weight": torch.ones(4)}, {})
    storage.upload(folder / file, f"{prefix}/{file}")
    facts: dict[str, Any] = {"global_batch_clips": 8, "world_size": 1, "canary_loss": 0.5}
    commit = Commit(
        run_name="run",
        step=step,
        attempt=attempt,
        epoch=step // 4,
        batch=step % 4,
        config_fingerprint="f",
        datasets=({"name": "d"},),
        model={"prototypes": 3},
        weights_sha256=sha256,
        has_optimizer=True,
        weights=tuple(weights),
        optimizer=tuple(optimizer),
        **facts,
    )
    put_commit(storage, commit)
    return commit


def test_a_commit_reads_back_as_it_was_written(storage: Storage, tmp_path: Path) -> None:
    commit = make_commit(storage, tmp_path, 5)

    assert newest_commit(storage, "run") == commit
    assert commit.prefix == "runs/run/train/step-00000005/a"


def test_a_run_without_commits_has_no_newest_one(storage: Storage) -> None:
    assert newest_commit(storage, "run") is None
    assert list_commits(storage, "run") == []


def test_files_without_commit_json_are_no_commit(storage: Storage, tmp_path: Path) -> None:
    make_commit(storage, tmp_path, 1)
    write_weights(
        torch.nn.Linear(1, 1).state_dict(), storage, commit_prefix("run", 2, "a"), tmp_path
    )

    assert [commit.step for commit in list_commits(storage, "run")] == [1]


def test_commits_come_by_step_and_a_newer_attempt_wins(storage: Storage, tmp_path: Path) -> None:
    for step, attempt in ((10, "b"), (2, "a"), (10, "a")):
        make_commit(storage, tmp_path, step, attempt)

    found = list_commits(storage, "run")

    assert [(commit.step, commit.attempt) for commit in found] == [(2, "a"), (10, "b")]


def test_the_latest_commit_is_hinted_at(storage: Storage, tmp_path: Path) -> None:
    commit = make_commit(storage, tmp_path, 3)

    hint = read_json(storage, "runs/run/train/latest.json")

    assert hint == {"step": 3, "attempt": "a", "prefix": commit.prefix}


def test_weights_are_checked_before_they_are_used(storage: Storage, tmp_path: Path) -> None:
    commit = make_commit(storage, tmp_path, 1)
    weights = load_weights(storage, commit)
    path = Path(storage.uri(f"{commit.prefix}/model.safetensors"))
    path.write_bytes(path.read_bytes()[:-4] + b"abcd")

    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == {
        "weight": (2, 2),
        "bias": (2,),
    }
    with pytest.raises(StageError, match="is damaged"):
        load_weights(storage, commit)


def test_an_attempt_commits_a_step_once(storage: Storage, tmp_path: Path) -> None:
    commit = make_commit(storage, tmp_path, 1)

    with pytest.raises(StageError, match="only once"):
        put_commit(storage, commit)


def test_only_the_newest_commits_keep_their_optimizer(storage: Storage, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        make_commit(storage, tmp_path, step)

    drop_old_optimizer_states(storage, "run", keep=2)

    found = list_commits(storage, "run")
    assert [commit.has_optimizer for commit in found] == [False, True, True]
    assert found[0].optimizer == ()
    assert load_weights(storage, found[0])
    left = [key for key in storage.list("runs/run/train") if "/optimizer-" in key]
    assert [key.split("/")[3] for key in left] == ["step-00000002", "step-00000003"]


def test_a_commit_of_another_format_is_not_guessed_at(storage: Storage, tmp_path: Path) -> None:
    key = f"{make_commit(storage, tmp_path, 1).prefix}/commit.json"
    write_json(storage, key, {**read_json(storage, key), "format": 1})

    with pytest.raises(StageError, match="has format 1, this version reads 2"):
        newest_commit(storage, "run")
