"""Commits go on beside the steps, change none of them, and survive a failing store for a while."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import LocalStorage, Storage
from sigma_pipeline.jobs import commit_clock, commit_save
from sigma_pipeline.jobs.canary import canary_loss, load_canary
from sigma_pipeline.jobs.checkpoints import load_weights
from sigma_pipeline.jobs.commits import list_commits
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.model import teachers
from sigma_pipeline.model.config import TargetConfig
from sigma_pipeline.model.sigma import Sigma
from sigma_pipeline.model.teacher_source import teacher_sha256
from sigma_pipeline.model.weights import restore_weights
from tests.jobs.train_runs import at_step, curve, wish_to_stop
from tests.model.teacher_files import use_small_shapes, write_folder

pytestmark = [
    pytest.mark.usefixtures("one_rank"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]

MakeRequest = Callable[..., TrainRequest]


def steps(storage: Storage) -> list[int]:
    return [commit.step for commit in list_commits(storage, "tiny")]


def on_upload(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Calls ``act`` before each file of the commit of ``step`` is brought to the store."""
    upload = LocalStorage.upload

    def acting(self: LocalStorage, path: Path, key: str) -> None:
        if f"/step-{step:08d}/" in key:
            act()
        upload(self, path, key)

    monkeypatch.setattr(LocalStorage, "upload", acting)


def disk_full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_steps_are_taken_while_a_slow_store_takes_a_commit(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_released = threading.Event()

    def wait() -> None:
        assert is_released.wait(30), "no step was taken meanwhile"

    on_upload(monkeypatch, 4, wait)
    at_step(monkeypatch, 7, is_released.set)

    run_train(make_request(global_batch_clips=4))

    assert steps(storage) == [0, 4, 8, 12]


@pytest.mark.parametrize(("stage", "precision"), [(1, "fp32"), (2, "bf16"), (3, "bf16_autocast")])
def test_commits_change_no_number_of_training(
    storage: Storage, make_request: MakeRequest, stage: int, precision: str
) -> None:
    curves, weights = [], []
    for every in (1000, 1):
        for key in storage.list("runs"):
            storage.delete(key)
        run_train(make_request(zero_stage=stage, precision=precision, commit_every_steps=every))
        curves.append(curve(storage))
        weights.append([commit.weights_sha256 for commit in list_commits(storage, "tiny")])

    assert curves[0] == curves[1]
    assert len(curves[0]) == 6
    assert [weights[1][0], weights[1][-1]] == weights[0]
    assert len(set(weights[1])) == 7


def test_a_commit_that_fails_is_left_out_and_the_next_one_is_made(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_upload(monkeypatch, 2, disk_full)
    request = make_request(commit_every_steps=2)

    result = run_train(request)

    assert result["state"] == "finished"
    assert steps(storage) == [0, 4, 6]
    (log,) = Path(request.work_dir, "logs", "tiny").iterdir()
    assert "STEP 2 WAS NOT COMMITTED: [Errno 28] No space left on device" in log.read_text()


def test_what_a_failed_commit_has_left_is_removed(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = commit_save.put_commit

    def fail_once(store: Storage, commit: Any) -> None:
        if commit.step == 2:
            assert storage.list("runs/tiny/train/step-00000002")
            disk_full()
        put(store, commit)

    monkeypatch.setattr(commit_save, "put_commit", fail_once)

    run_train(make_request(commit_every_steps=2))

    assert steps(storage) == [0, 4, 6]
    assert storage.list("runs/tiny/train/step-00000002") == []


def test_without_a_commit_for_longer_than_the_grace_training_stops_and_says_where(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_upload(monkeypatch, 4, disk_full)

    with pytest.raises(
        StageError,
        match=r"for 0 minutes \(train\.commit_grace_min\).*No space left.*the last good commit is "
        r"runs/tiny/train/step-00000002/.*run the same command again",
    ):
        run_train(make_request(commit_every_steps=2, epochs=30, commit_grace_min=0))

    assert steps(storage) == [0, 2]


def test_the_last_commit_is_tried_again_until_it_is_there(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_clock, "RETRY_AFTER_S", 0.01)
    failures = [disk_full, disk_full]
    on_upload(monkeypatch, 6, lambda: failures and failures.pop()())

    result = run_train(make_request())

    assert (result["state"], steps(storage)) == ("finished", [0, 4, 6])


def test_a_stop_that_cannot_be_committed_says_so_at_once(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 0, wish_to_stop)
    on_upload(monkeypatch, 2, disk_full)

    with pytest.raises(StageError, match=r"step 2 could not be committed: .*No space left"):
        run_train(make_request())


def test_commits_are_made_by_the_clock_too(storage: Storage, make_request: MakeRequest) -> None:
    run_train(make_request(commit_every_steps=1000, commit_every_min=1e-9))

    assert steps(storage)[:2] == [0, 2]  # the clock of step 0 is heard by all one step later


def test_who_asked_for_it_hears_of_each_commit_and_may_fail(
    storage: Storage, make_request: MakeRequest
) -> None:
    heard = []

    def hear(step: int) -> None:
        heard.append(step)
        raise StageError("no job was submitted")

    run_train(make_request(), on_commit=hear)

    assert heard == steps(storage) == [0, 4, 6]


def test_a_bug_beside_the_steps_ends_training(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_save, "require_newest", lambda *_: {}["bug"])

    with pytest.raises(KeyError, match="bug"):
        run_train(make_request())


def test_the_time_that_a_commit_takes_is_kept_for_the_next_attempt(
    storage: Storage, make_request: MakeRequest
) -> None:
    run_train(make_request())

    saved_s = [commit.save_s for commit in list_commits(storage, "tiny")]
    assert 0 < saved_s[0] <= saved_s[1] <= saved_s[2]


@pytest.mark.parametrize(
    ("stage", "precision"), [(1, "fp32"), (1, "bf16"), (3, "fp32"), (3, "bf16_autocast")]
)
def test_the_canary_loss_is_that_of_the_committed_weights_in_float32(
    storage: Storage, make_request: MakeRequest, stage: int, precision: str
) -> None:
    request = make_request(zero_stage=stage, precision=precision, epochs=1)

    run_train(request)

    commits = list_commits(storage, "tiny")
    assert [commit.step for commit in commits] == [0, 2]
    for commit in commits:
        weights = load_weights(storage, commit)
        model = Sigma(request.model)
        restore_weights(model, weights)
        assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
        loss = canary_loss(request.objective(), model, load_canary(storage, "tiny"))
        assert loss == commit.canary_loss


@pytest.mark.parametrize(("stage", "precision"), [(1, "bf16_autocast"), (3, "bf16")])
def test_a_frozen_teacher_is_read_once_and_is_in_no_commit(
    storage: Storage,
    make_request: MakeRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: int,
    precision: str,
) -> None:
    use_small_shapes(monkeypatch)
    write_folder(tmp_path / "dino", "dino_s")
    read: list[TargetConfig] = []
    load_teacher = teachers.load_teacher

    def count(target: TargetConfig) -> torch.nn.Module:
        read.append(target)
        return load_teacher(target)

    monkeypatch.setattr(teachers, "load_teacher", count)
    target = {"kind": "dino", "teacher": "dino_s", "teacher_weights": str(tmp_path / "dino")}
    known_as = teacher_sha256(TargetConfig.model_validate(target))
    settings = {"zero_stage": stage, "precision": precision, "epochs": 1}

    run_train(make_request(model={"target": target}, teacher_sha256=known_as, **settings))

    assert len(read) == 1
    for commit in list_commits(storage, "tiny"):
        assert not any(name.startswith("head") for name in load_weights(storage, commit))
