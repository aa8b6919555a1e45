"""What training waits for when a store is slow or away, and what it does not."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import LocalStorage, Storage, read_json, write_json
from sigma_pipeline.jobs import commit_clock, commit_schedule, train_commit
from sigma_pipeline.jobs.commits import list_commits, newest_step
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.watchdog import Watchdog
from tests.jobs.train_runs import at_step, wish_to_stop

pytestmark = [
    pytest.mark.usefixtures("one_rank"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]

MakeRequest = Callable[..., TrainRequest]


def hold_uploads(monkeypatch: pytest.MonkeyPatch, step: int, is_released: Event) -> None:
    """Keeps the files of the commit of ``step`` out of the store until ``is_released``."""
    upload = LocalStorage.upload

    def held(self: LocalStorage, path: Path, key: str) -> None:
        if f"/step-{step:08d}/" in key:
            is_released.wait(30)
        upload(self, path, key)

    monkeypatch.setattr(LocalStorage, "upload", held)


def steps(storage: Storage) -> list[int]:
    return [commit.step for commit in list_commits(storage, "tiny")]


def test_a_commit_that_is_due_while_another_is_under_way_holds_up_no_step(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_schedule, "PATIENCE_S", 0.01)
    is_released = Event()
    hold_uploads(monkeypatch, 4, is_released)
    at_step(monkeypatch, 9, is_released.set)
    request = make_request(global_batch_clips=4)

    run_train(request)

    assert is_released.is_set()
    made = steps(storage)
    assert 8 not in made
    assert {0, 4, 12} <= set(made)
    (log,) = Path(request.work_dir, "logs", "tiny").iterdir()
    assert log.read_text().count("after step 8 is put off: that of step 4 is still") == 1


def test_when_no_write_at_all_succeeds_the_end_still_names_the_last_good_commit(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_store_away() -> None:
        while newest_step(storage, "tiny") < 2:
            time.sleep(0.01)
        for name in ("write", "write_if_absent", "upload", "delete"):
            monkeypatch.setattr(LocalStorage, name, no_answer)

    def no_answer(*_: object) -> None:
        raise StageError("the store does not answer")

    at_step(monkeypatch, 3, take_store_away)

    with pytest.raises(
        StageError, match=r"does not answer.*the last good commit is runs/tiny/train/step-00000002/"
    ):
        run_train(make_request(commit_every_steps=2, epochs=30, commit_grace_min=0))


def test_nobody_waits_for_what_is_done_about_a_commit(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_released, heard = Event(), []

    def hear(step: int) -> None:
        assert is_released.wait(30)
        heard.append(step)

    at_step(monkeypatch, 2, wish_to_stop)
    stopped = run_train(make_request(commit_every_steps=2), on_commit=hear)

    assert (stopped["state"], stopped["step"], heard) == ("stopped", 4, [])
    assert steps(storage) == [0, 2, 4]
    is_released.set()
    run_train(make_request(commit_every_steps=2), on_commit=hear)
    assert 6 in heard  # at the end there is time


def test_a_slow_save_is_forgotten_after_some_quicker_ones(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent_s, slow = commit_clock.CommitClock.spent_s, [900.0]
    monkeypatch.setattr(
        commit_clock.CommitClock, "spent_s", lambda self: slow[0] if slow else spent_s(self)
    )
    at_step(monkeypatch, 0, slow.clear)  # after the first

    run_train(make_request(commit_every_steps=1))

    saved_s = [commit.save_s for commit in list_commits(storage, "tiny")]
    assert [value == 900 for value in saved_s] == [True] * 4 + [False] * 3


def test_a_slow_save_of_an_earlier_attempt_is_not_told_on(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 2, wish_to_stop)
    key = f"{run_train(make_request())['commit']}/commit.json"
    write_json(storage, key, {**read_json(storage, key), "save_s": 5000.0})

    run_train(make_request())

    assert [commit.save_s == 5000 for commit in list_commits(storage, "tiny")][-2:] == [True, False]


def test_a_commit_whose_answer_was_lost_is_one(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_clock, "RETRY_AFTER_S", 0.01)
    put = LocalStorage.write_if_absent
    lost: list[str] = []

    def lose_answer(self: LocalStorage, key: str, data: bytes) -> bool:
        is_put = put(self, key, data)
        if "/step-00000006/" in key and not lost:
            lost.append(key)
            raise StageError("the store does not answer")
        return is_put

    monkeypatch.setattr(LocalStorage, "write_if_absent", lose_answer)

    result = run_train(make_request())

    assert (result["state"], result["step"], len(lost)) == ("finished", 6, 1)
    assert steps(storage) == [0, 4, 6]


def test_a_slow_last_commit_gives_signs_of_life(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_commit, "_SIGN_INTERVAL_S", 0.02)
    at, is_released = Watchdog.at, Event()
    signs: list[Any] = []

    def note(self: Watchdog, phase: str, step: int) -> None:
        signs.append((phase, step))
        if signs.count(("commit", 6)) > 9:
            is_released.set()
        at(self, phase, step)

    monkeypatch.setattr(Watchdog, "at", note)
    hold_uploads(monkeypatch, 6, is_released)

    run_train(make_request())

    assert is_released.is_set()


def test_a_commit_that_never_ends_ends_training(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_released = Event()
    hold_uploads(monkeypatch, 6, is_released)

    def lose_patience() -> None:
        monkeypatch.setattr(train_commit, "SLOWEST_RANK", timedelta(seconds=0.2))
        monkeypatch.setattr(train_commit, "_SIGN_INTERVAL_S", 0.02)
        monkeypatch.setattr(train_commit, "_LAST_WAIT_S", 0.02)

    at_step(monkeypatch, 5, lose_patience)

    with pytest.raises(StageError, match=r"has not ended after .* minutes; the last good commit"):
        run_train(make_request(commit_every_steps=3))
    is_released.set()
