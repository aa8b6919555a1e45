"""Processes wait for each other, but neither deaf nor for ever."""

import socket
import threading
from pathlib import Path

import pytest

from sigma_pipeline.infra.errors import BadNodes, Interrupted
from sigma_pipeline.jobs import rendezvous
from sigma_pipeline.jobs.rendezvous import meet
from sigma_pipeline.jobs.train_request import RankPlace


def place(path: Path, rank: int) -> RankPlace:
    return RankPlace(rank, 2, rank, str(path / "rendezvous"))


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_one_process_alone_waits_for_nobody() -> None:
    assert meet(RankPlace(), lambda: False).check(["here/0"])


def test_both_go_on_when_both_are_there(tmp_path: Path) -> None:
    met = []
    other = threading.Thread(target=lambda: met.append(meet(place(tmp_path, 1), lambda: False)))
    other.start()

    store = meet(place(tmp_path, 0), lambda: False)
    other.join()

    assert store.check(["here/0", "here/1"])
    assert len(met) == 1


def test_a_wish_to_stop_ends_the_wait_of_everybody(tmp_path: Path) -> None:
    errors = []

    def wait_for_the_third(rank: int) -> None:
        three = RankPlace(rank, 3, rank, str(tmp_path / "rendezvous"))
        try:
            meet(three, lambda: rank == 1)
        except Interrupted as error:
            errors.append(str(error))

    threads = [threading.Thread(target=wait_for_the_third, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == ["stopped before all processes of the job had started"] * 2


def test_a_wish_to_stop_is_heard_without_rank_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "_DECISION_S", 0.1)

    with pytest.raises(Interrupted, match="before all processes"):
        meet(place(tmp_path, 1), lambda: True)


def test_those_who_do_not_come_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadNodes, match="rank 1 of 2 did not start within"):
        meet(place(tmp_path, 0), lambda: False, 0.1)


def test_the_nodes_of_those_who_do_not_come_are_named_on_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[2-3]")
    monkeypatch.setenv("SLURM_TASKS_PER_NODE", "1(x2)")

    with pytest.raises(BadNodes, match="rank 1 on n3 of 2 did not start") as caught:
        meet(place(tmp_path, 0), lambda: False, 0.1)

    assert caught.value.hosts == ("n3",)
    assert caught.value.reported_by == 0


def test_a_rank_0_that_cannot_be_reached_is_missing(unused_port: int) -> None:
    there = RankPlace(1, 2, 1, f"tcp://127.0.0.1:{unused_port}")

    with pytest.raises(BadNodes, match="rank 0 of 2 could not be reached") as caught:
        meet(there, lambda: False, 0.2)

    assert caught.value.reported_by == 1


def test_a_wish_to_stop_is_heard_while_rank_0_cannot_be_reached(
    unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "_CONNECT_S", 0.2)

    with pytest.raises(Interrupted, match="before all processes"):
        meet(RankPlace(1, 2, 1, f"tcp://127.0.0.1:{unused_port}"), lambda: True)
