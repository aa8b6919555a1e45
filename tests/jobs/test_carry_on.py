"""Carrying out what was decided after an attempt, with stand-ins for SLURM."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.infra.tracking import noted_status
from sigma_pipeline.jobs import carry_on, slurm
from sigma_pipeline.jobs.attempts import is_cancelled, mark_cancelled
from sigma_pipeline.jobs.carry_on import EndingJob
from sigma_pipeline.jobs.chain import links_left
from sigma_pipeline.jobs.next_attempt import Decision
from sigma_pipeline.jobs.slurm import JobView, SlurmError
from sigma_pipeline.jobs.submission import record_submission
from tests.jobs.attempt_records import end
from tests.jobs.snapshots import make_snapshot

RUNNING = JobView(job_id="7", state="RUNNING", restarts=1, end_time_s=2e9)
CANCELLED = replace(RUNNING, state="COMPLETING")
REQUEUE = Decision(action="requeue", exit_status=0, end=end(), after_s=60, without=("n2",))
NEXT_LINK = replace(REQUEUE, action="next_link", exit_status=1)
KILLED = Decision(action="nothing", exit_status=75, end=end("stopped"), run_status="KILLED")


class World:
    """What SLURM says and is asked for."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.view: JobView | None = RUNNING
        self.refusals = 0
        self.is_put_off = True
        self.calls: list[tuple[Any, ...]] = []

    def sleep(self, seconds: float) -> None:
        """Takes no time."""
        self.now_s += seconds

    def requeue(self, job_id: str, *, after_s: float, without: Any, always_without: str) -> None:
        """See ``next_start``."""
        self.calls.append(("requeue", job_id, after_s, without, always_without))
        if self.refusals:
            self.refusals -= 1
            raise SlurmError("no answer")

    def put_off(self, job_id: str, *, after_s: float, without: Any, always_without: str) -> bool:
        """See ``next_start``."""
        self.calls.append(("put off", job_id, after_s, without, always_without))
        return self.is_put_off


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """One in which the job runs."""
    world = World()
    monkeypatch.setattr(carry_on, "requeue", world.requeue)
    monkeypatch.setattr(carry_on, "put_off", world.put_off)
    clock = SimpleNamespace(sleep=world.sleep, monotonic=lambda: world.now_s, time=time.time)
    monkeypatch.setattr(carry_on, "time", clock)
    monkeypatch.setattr(slurm, "job_view", lambda _: world.view)
    monkeypatch.setattr(slurm, "cancel", lambda job_id: world.calls.append(("cancel", job_id)))
    return world


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    """Of a run whose job 7 is the second of a chain of four; 30 was submitted by another call."""
    for name, jobs in (("a", ("6", "7", "8", "9")), ("b", ("30",))):
        snapshot = replace(make_snapshot(tmp_path), name=name)
        for job_id in jobs:
            record_submission(snapshot, "train", job_id, tmp_path, world_size=1)
        record_submission(snapshot, "evaluate", "20", tmp_path, world_size=1)
    return open_storage(snapshot.root_uri)


@pytest.fixture
def job(store: Storage) -> EndingJob:
    """The second of the chain."""
    return EndingJob(storage=store, run_name="tiny", job_id="7", restart=1, exclude="n9")


def test_the_links_of_a_chain_are_those_of_the_same_call(store: Storage) -> None:
    assert links_left(store, "tiny", "7") == ["8", "9"]
    assert links_left(store, "tiny", "30") == []
    assert links_left(store, "tiny", "77") == []


def test_slurm_is_asked_for_an_hour_where_it_does_not_answer(job: EndingJob, world: World) -> None:
    world.refusals = 7

    assert job.carry_out(REQUEUE) == 0

    assert world.calls == [("requeue", "7", 60, ("n2",), "n9")] * 8
    assert world.now_s >= 3600


def test_in_the_end_a_person_has_to_do_it(
    job: EndingJob, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.refusals = 99

    assert job.carry_out(REQUEUE) == 1

    assert "scontrol requeue 7" in caplog.text


@pytest.mark.parametrize("by", ["scancel", "sigma-pipeline cancel"])
def test_a_cancel_while_slurm_does_not_answer_wins(
    job: EndingJob, store: Storage, world: World, by: str
) -> None:
    world.refusals = 99
    if by == "scancel":
        world.view = CANCELLED
    else:
        mark_cancelled(store, "tiny", "7", "login")

    assert job.carry_out(REQUEUE) == 75

    assert [call[0] for call in world.calls] == ["requeue", "cancel", "cancel"]
    note = noted_status(store, "tiny")
    assert note is not None
    assert note.status == "KILLED"


def test_a_failure_puts_the_next_links_off(job: EndingJob, world: World) -> None:
    assert job.carry_out(NEXT_LINK) == 1

    assert world.calls == [("put off", link, 60, ("n2",), "n9") for link in ("8", "9")]
    assert world.now_s == 0


def test_where_links_may_not_be_changed_the_job_waits_itself(job: EndingJob, world: World) -> None:
    world.is_put_off = False

    assert job.carry_out(NEXT_LINK) == 1

    assert world.now_s == 60


def test_it_waits_no_longer_than_its_time_limit(job: EndingJob, world: World) -> None:
    world.is_put_off = False
    world.view = replace(RUNNING, end_time_s=time.time() + 90)

    job.carry_out(NEXT_LINK)

    assert 20 < world.now_s <= 30


def test_an_orderly_stop_changes_no_link(job: EndingJob, world: World) -> None:
    assert job.carry_out(replace(NEXT_LINK, exit_status=75, after_s=0, without=())) == 75

    assert world.calls == []


def test_no_link_trains_on_when_one_was_cancelled(
    job: EndingJob, store: Storage, world: World
) -> None:
    assert job.carry_out(KILLED) == 75

    assert world.calls == [("cancel", "8"), ("cancel", "9")]
    marked = [one for one in ("6", "7", "8", "9", "30") if is_cancelled(store, "tiny", one)]
    assert marked == ["7", "8", "9"]


def test_a_cancel_during_the_wait_ends_the_chain(job: EndingJob, world: World) -> None:
    world.is_put_off = False
    world.view = replace(CANCELLED, end_time_s=2e9)

    assert job.carry_out(NEXT_LINK) == 75

    assert world.calls[2:] == [("cancel", "8"), ("cancel", "9")]
    assert world.now_s == 10
