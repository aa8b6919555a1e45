"""A commit exists when its commit.json does, and says truthfully what can be resumed."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import LocalStorage, Storage, read_json, write_json
from sigma_pipeline.jobs.checkpoints import load_weights, write_weights
from sigma_pipeline.jobs.commit_leftovers import remove_leftovers
from sigma_pipeline.jobs.commits import (
    Commit,
    commit_prefix,
    committing_attempts,
    drop_old_optimizer_states,
    list_commits,
    newest_commit,
    newest_step,
    put_commit,
    put_hint,
)
from sigma_pipeline.jobs.tensor_pieces import write_pieces


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
    put_hint(storage, commit)
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

    put_commit(storage, replace(commit, save_s=9.0))  # as after an answer that was lost
    with pytest.raises(StageError, match="only once"):
        put_commit(storage, replace(commit, weights_sha256="0" * 64))

    assert newest_commit(storage, "run") == commit


def test_only_the_newest_commits_keep_their_optimizer(storage: Storage, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        make_commit(storage, tmp_path, step)

    drop_old_optimizer_states(storage, newest_commit(storage, "run"), keep_last=2)

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


def test_commits_at_multiples_keep_their_optimizer_too(storage: Storage, tmp_path: Path) -> None:
    for step in range(1, 8):
        commit = make_commit(storage, tmp_path, step)
        drop_old_optimizer_states(storage, commit, keep_last=1, keep_every_steps=3)

    found = list_commits(storage, "run")

    assert [commit.step for commit in found if commit.has_optimizer] == [3, 6, 7]


def test_a_commit_keeps_its_optimizer_though_later_ones_are_there(
    storage: Storage, tmp_path: Path
) -> None:
    """As after a later one was found broken."""
    for step in (8, 2, 3):
        commit = make_commit(storage, tmp_path, step)

    drop_old_optimizer_states(storage, commit, keep_last=1)

    found = list_commits(storage, "run")
    assert [commit.step for commit in found if commit.has_optimizer] == [3, 8]


def test_the_newest_step_is_known_without_reading_a_commit(
    storage: Storage, tmp_path: Path
) -> None:
    before = newest_step(storage, "run")
    for step in (2, 11):
        key = f"{make_commit(storage, tmp_path, step).prefix}/commit.json"
    storage.write(key, b"{")

    assert (before, newest_step(storage, "run")) == (0, 11)


def test_a_commit_that_cannot_be_read_hides_no_other(storage: Storage, tmp_path: Path) -> None:
    make_commit(storage, tmp_path, 2)
    storage.write(f"{make_commit(storage, tmp_path, 4).prefix}/commit.json", b"{")

    assert [commit.step for commit in list_commits(storage, "run")] == [2]
    assert newest_commit(storage, "run").step == 2


def test_commits_are_read_without_loading_pytorch() -> None:
    program = "import sys, sigma_pipeline.jobs.commits; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-P", "-c", program]).returncode == 0


def test_files_that_killed_attempts_left_are_removed_and_no_others(
    storage: Storage, tmp_path: Path
) -> None:
    whole = make_commit(storage, tmp_path, 1, "a")
    dropped = make_commit(storage, tmp_path, 2, "a")
    write_json(
        storage,
        f"{dropped.prefix}/commit.json",
        {
            **read_json(storage, f"{dropped.prefix}/commit.json"),
            "has_optimizer": False,
            "optimizer": [],
        },
    )
    kept = storage.list(whole.prefix) + [
        f"{dropped.prefix}/{name}" for name in ("commit.json", "model.safetensors")
    ]
    for step, attempt in ((3, "a"), (3, "b"), (3, "c")):
        storage.write(f"{commit_prefix('run', step, attempt)}/optimizer-0.safetensors", b"x")
    storage.write("runs/run/train/bad-steps/step-00000003/a/bad.json", b"x")

    remove_leftovers(storage, "run", "b")

    assert storage.list("runs/run/train/step-00000001") == sorted(kept[:3])
    assert storage.list("runs/run/train/step-00000002") == sorted(kept[3:])
    left = [key.split("/")[4] for key in storage.list("runs/run/train/step-00000003")]
    assert left == ["b", "c"]
    assert storage.exists("runs/run/train/bad-steps/step-00000003/a/bad.json")


def test_leftovers_that_cannot_be_removed_are_a_warning(
    storage: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage.write(f"{commit_prefix('run', 3, 'a')}/model.safetensors", b"x")

    def refuse(*_: object) -> None:
        raise OSError("read-only")

    monkeypatch.setattr(LocalStorage, "delete", refuse)

    remove_leftovers(storage, "run", "b")

    assert "stays for now: read-only" in caplog.text


def test_attempts_that_committed_only_the_untrained_model_have_not_got_on(
    storage: Storage, tmp_path: Path
) -> None:
    for step, attempt in ((0, "a"), (4, "b"), (2, "c")):
        make_commit(storage, tmp_path, step, attempt)

    assert committing_attempts(storage, "run") == {"b", "c"}
