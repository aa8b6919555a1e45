"""Nodes are tried before the first step, and a bad one is named on every rank."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from sigma_pipeline.infra.errors import BadNodes, StageError, StoreRefuses
from sigma_pipeline.infra.storage import LocalStorage, Storage
from sigma_pipeline.jobs import preflight, train_loop
from sigma_pipeline.jobs.attempts import read_attempts
from sigma_pipeline.jobs.commits import list_commits
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.gpu_sharing import TrainingShare
from sigma_pipeline.jobs.preflight import Findings, check_nodes, naming_rank, require_readable
from sigma_pipeline.jobs.rank_notes import RankNotes
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_attempt import record_refusal
from sigma_pipeline.jobs.train_request import RankPlace, TrainRequest
from tests.jobs.fake_ranks import fake_ranks

MakeRequest = Callable[..., TrainRequest]
GOOD = {"problem": ""}


def exchange(ranks: list[RankContext], notes: dict[int, Any], limit_s: float = 10) -> list[Any]:
    """What every rank hears that has a note: its result, or the BadNodes raised."""
    heard: dict[int, Any] = {}

    def talk(rank: int) -> None:
        try:
            heard[rank] = Findings(ranks[rank], "test", limit_s).exchange(notes[rank])
        except BadNodes as error:
            heard[rank] = error

    threads = [threading.Thread(target=talk, args=(rank,)) for rank in notes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [heard[rank] for rank in sorted(notes)]


def test_a_good_node_passes_and_nothing_stays(
    one_rank: RankContext, storage: Storage, make_request: MakeRequest
) -> None:
    check_nodes(one_rank, storage, make_request(), "good")

    assert storage.list("runs") == []
    assert list(Path(make_request().scratch_dir).iterdir()) == []


def test_a_scratch_disk_without_room_is_a_problem(
    one_rank: RankContext,
    storage: Storage,
    make_request: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preflight, "MIN_SCRATCH_BYTES", 1 << 60)

    with pytest.raises(BadNodes, match=r"scratch_dir=.* GiB free.*no fault of single nodes"):
        check_nodes(one_rank, storage, make_request(), "full")


def test_a_scratch_folder_that_cannot_be_made_is_a_problem(
    one_rank: RankContext, storage: Storage, make_request: MakeRequest, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    request = replace(make_request(), scratch_dir=str(tmp_path / "file" / "scratch"))

    with pytest.raises(BadNodes, match="Not a directory"):
        check_nodes(one_rank, storage, request, "nowhere")


def test_a_store_that_returns_something_else_is_a_problem(
    one_rank: RankContext,
    storage: Storage,
    make_request: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LocalStorage, "read", lambda *_: b"something else")

    with pytest.raises(BadNodes, match=r"preflight/bad/0 is not read back as it was written"):
        check_nodes(one_rank, storage, make_request(), "bad")
    assert storage.list("runs") == []


def test_a_store_that_refuses_one_node_is_a_problem_of_that_node(
    one_rank: RankContext,
    storage: Storage,
    make_request: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise StoreRefuses("refuses access (ExpiredToken)")

    monkeypatch.setattr(LocalStorage, "write", refuse)

    with pytest.raises(BadNodes, match="refuses access"):
        check_nodes(one_rank, storage, make_request(), "refused")


def test_a_sum_that_never_comes_is_a_problem(
    one_rank: RankContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over = threading.Event()
    monkeypatch.setattr(dist, "all_reduce", lambda _: is_over.wait(60))

    problem, ranks = preflight._sum_problem(one_rank, 0.1)
    is_over.set()

    assert (problem, ranks) == ("a sum over all ranks did not come within 0 s", [0])


def test_a_wrong_sum_names_the_rank_whose_part_is_wrong(
    one_rank: RankContext,
    storage: Storage,
    make_request: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add = dist.all_reduce

    def add_wrongly(vector: torch.Tensor, **options: Any) -> Any:
        vector[0, 17] += 1
        return add(vector, **options)

    monkeypatch.setattr(dist, "all_reduce", add_wrongly)

    with pytest.raises(BadNodes, match="a sum over all ranks is wrong in the part of rank 0 on"):
        check_nodes(one_rank, storage, make_request(), "wrong")


def test_a_device_that_multiplies_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert preflight._device_problem(torch.device("cpu")) == ""

    monkeypatch.setattr(torch, "equal", lambda *_: False)
    assert preflight._device_problem(torch.device("cpu")) == "cpu multiplies wrongly"


@pytest.mark.parametrize(
    ("share", "is_in_use"),
    [(None, True), (TrainingShare("memory_cap", 0.7), False), (TrainingShare("pause", 0.7), True)],
)
def test_a_gpu_that_others_use_is_no_problem_beyond_the_share_of_training(
    share: TrainingShare | None, is_in_use: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (60 << 30, 100 << 30))

    problem = preflight._memory_problem(torch.device("cuda", 0), share)

    assert problem == ("cuda:0 has 60.0 of 100.0 GiB free: it is in use" if is_in_use else "")


def test_every_rank_hears_of_the_bad_node_in_the_same_words() -> None:
    ranks = fake_ranks("n1", "n1", "n2", "n2")
    notes: dict[int, Any] = dict.fromkeys(range(4), GOOD)
    notes[2] = notes[3] = {"problem": "no room"}

    heard = exchange(ranks, notes)

    assert [error.hosts for error in heard] == [("n2",)] * 4
    assert {str(error) for error in heard} == {
        "before the first step, rank 2 on n2, rank 3 on n2: no room (to be avoided: n2)"
    }


def test_a_rank_that_never_answers_is_named() -> None:
    heard = exchange(fake_ranks("n1", "n2", "n3"), {0: GOOD, 1: GOOD}, 0.3)

    assert [error.hosts for error in heard] == [("n3",)] * 2
    assert "rank 2 on n3: no answer within" in str(heard[0])


def test_a_rank_0_that_never_answers_is_named() -> None:
    (error,) = exchange(fake_ranks("n1", "n2"), {1: GOOD}, 0.2)

    assert error.hosts == ("n1",)


def test_the_rank_whose_part_is_wrong_is_blamed_not_those_who_noticed() -> None:
    note = {"problem": "the part of rank 1 is wrong", "blamed": [1]}

    heard = exchange(fake_ranks("n1", "n2", "n3"), dict.fromkeys(range(3), note))

    assert [error.hosts for error in heard] == [("n2",)] * 3


def test_what_every_node_has_is_no_fault_of_theirs() -> None:
    note = {"problem": "the store cannot be reached"}

    heard = exchange(fake_ranks("n1", "n2"), dict.fromkeys(range(2), note))

    assert [error.hosts for error in heard] == [()] * 2
    assert "no fault of single nodes" in str(heard[1])


def test_rank_0_stays_until_the_others_have_heard() -> None:
    ranks = fake_ranks("n1", "n2")
    bad = Findings(ranks[0], "test", 10)
    RankNotes(ranks[1].store, "test").put(1, {"problem": "no room"})
    timer = threading.Timer(0.4, lambda: RankNotes(ranks[1].store, "test/heard").put(1, {}))
    began_s = time.monotonic()
    timer.start()

    with pytest.raises(BadNodes):
        bad.exchange(GOOD)

    assert time.monotonic() - began_s > 0.3


def test_clocks_that_differ_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    ranks = fake_ranks("n1", "n2")

    with caplog.at_level(logging.WARNING):
        preflight._compare_clocks(ranks[0], {0: 1000.0, 1: 1030.0})
        assert not caplog.records
        preflight._compare_clocks(ranks[0], {0: 1000.0, 1: 900.0})

    assert "clock of n2 is 100 s behind that of n1" in caplog.text


def test_a_failure_says_on_which_rank_and_node_it_was() -> None:
    with (
        pytest.raises(StageError, match="rank 1 on n2: the shard is damaged"),
        naming_rank(fake_ranks("n1", "n2")[1]),
    ):
        raise StageError("the shard is damaged")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of DeepSpeed's, from torch 2.13
def test_the_first_commit_of_a_run_is_read_back(
    one_rank: RankContext,
    storage: Storage,
    make_request: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []
    monkeypatch.setattr(train_loop, "require_readable", lambda _, prefix: read.append(prefix))
    run_train(make_request(epochs=1))
    prefix = list_commits(storage, "tiny")[0].prefix

    assert read == [prefix]
    require_readable(storage, prefix)
    storage.write(f"{prefix}/model.safetensors", b"something else")
    with pytest.raises(StageError, match="damaged"):
        require_readable(storage, prefix)
    storage.delete(f"{prefix}/model.safetensors")
    with pytest.raises(StageError, match=r"model\.safetensors"):
        require_readable(storage, prefix)


def test_an_attempt_for_which_not_all_came_is_recorded(
    storage: Storage, make_request: MakeRequest
) -> None:
    absence = BadNodes("rank 0 on n1 did not start", ("n1",), reported_by=1)

    record_refusal(make_request(), RankPlace(1, 3), absence)

    (attempt,) = read_attempts(storage, "tiny")
    assert attempt.record is not None
    assert attempt.record.world_size == 3
    assert attempt.end is not None
    assert (attempt.end.state, attempt.end.bad_nodes) == ("failed", ("n1",))
    assert attempt.end.reason == "rank 0 on n1 did not start"
