"""Cancelling: training saves first, nothing is left, and nobody goes on with it."""

from collections.abc import Callable

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.attempts import is_cancelled
from sigma_pipeline.pipeline.cancelling import Clock, cancel_run, describe_stop
from sigma_pipeline.pipeline.services import Services
from tests.pipeline.slurm_fake import FakeSlurm

STAGES = ("shard", "train", "evaluate")


class Ticking:
    """A clock that goes on by what is slept, and does something at given seconds."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.events: dict[float, Callable[[], None]] = {}

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        self.now_s += seconds
        for due_s in [due_s for due_s in self.events if due_s <= self.now_s]:
            self.events.pop(due_s)()


@pytest.fixture
def ticking() -> Ticking:
    return Ticking()


def end(
    services: Services,
    ticking: Ticking,
    *,
    grace_s: float = 60.0,
    stages: tuple[str, ...] = STAGES,
) -> int:
    clock = Clock(now_s=lambda: ticking.now_s, sleep=ticking.sleep)
    return cancel_run(
        services.storage,
        services.run_name,
        stages,
        grace_s=grace_s,
        show=services.show,
        clock=clock,
    )


def test_training_is_marked_then_asked_and_has_time_to_save(
    services: Services, slurm: FakeSlurm, ticking: Ticking
) -> None:
    slurm.submit("7", "RUNNING")
    marked_when_signalled = []
    slurm.on_signal = lambda job_id: marked_when_signalled.append(
        is_cancelled(services.storage, services.run_name, job_id)
    )
    ticking.events[20.0] = lambda: slurm.turn("7", "FAILED")

    count = end(services, ticking)

    assert count == 1
    assert slurm.calls == [("TERM", "7"), ("TERM", "7")]  # once more after 15 s
    assert marked_when_signalled == [True, True]
    assert ticking.now_s == 20.0


def test_what_does_not_end_in_time_is_ended(
    services: Services, slurm: FakeSlurm, ticking: Ticking, shown: list[str]
) -> None:
    slurm.submit("7", "RUNNING")

    end(services, ticking, grace_s=10.0)

    assert slurm.calls == [("TERM", "7"), ("cancel", "7")]
    assert ticking.now_s == 12.0
    assert shown == [
        "train job 7 is asked to save and end; it has 10 s",
        "train job 7 is ended",
        "train job 7 has ended",
    ]


def test_a_slurm_that_is_too_busy_to_answer_is_waited_for(
    services: Services, slurm: FakeSlurm, ticking: Ticking
) -> None:
    slurm.submit("7", "RUNNING")

    def fall_silent(_: str) -> None:
        slurm.is_silent = True
        slurm.turn("7", "COMPLETED")

    def answer_again() -> None:
        slurm.is_silent = False

    slurm.on_signal = fall_silent
    ticking.events[20.0] = answer_again

    assert end(services, ticking) == 1
    assert ticking.now_s == 20.0


def test_without_grace_nothing_is_asked(
    services: Services, slurm: FakeSlurm, ticking: Ticking
) -> None:
    slurm.submit("7", "RUNNING")

    end(services, ticking, grace_s=0.0)

    assert slurm.calls == [("cancel", "7")]
    assert is_cancelled(services.storage, services.run_name, "7")


def test_waiting_members_of_a_chain_go_at_once_and_evaluations_after_training(
    services: Services, slurm: FakeSlurm, ticking: Ticking
) -> None:
    slurm.submit("5", "FAILED")
    slurm.submit("6", "COMPLETED", stage="shard")
    slurm.submit("7", "RUNNING")
    slurm.submit("8", "PENDING")
    slurm.submit("9", "PENDING", stage="evaluate", reason="DependencyNeverSatisfied")

    def save_and_submit_an_evaluation(job_id: str) -> None:
        slurm.submit("10", "PENDING", stage="evaluate")
        slurm.turn(job_id, "FAILED")

    slurm.on_signal = save_and_submit_an_evaluation

    count = end(services, ticking)

    assert count == 4
    assert slurm.calls == [("TERM", "7"), ("cancel", "8"), ("cancel", "9"), ("cancel", "10")]


def test_a_job_that_only_has_the_number_of_ours_is_left_alone(
    services: Services, slurm: FakeSlurm, ticking: Ticking
) -> None:
    slurm.submit("7", "RUNNING", name="others-train")
    slurm.submit("8", "PENDING", name=f"{services.run_name}-train")

    assert end(services, ticking) == 1

    assert slurm.calls == [("cancel", "8")]
    assert not is_cancelled(services.storage, services.run_name, "7")


def test_only_the_stage_that_is_named_is_ended(
    services: Services, slurm: FakeSlurm, ticking: Ticking
) -> None:
    slurm.submit("7", "RUNNING")
    slurm.submit("9", "RUNNING", stage="evaluate")

    end(services, ticking, stages=("evaluate",))

    assert slurm.calls == [("cancel", "9")]
    assert not is_cancelled(services.storage, services.run_name, "7")


def test_a_job_that_slurm_cannot_end_is_named(
    services: Services,
    slurm: FakeSlurm,
    ticking: Ticking,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slurm.submit("7", "COMPLETING")
    monkeypatch.setattr("sigma_pipeline.pipeline.cancelling.cancel", lambda _: None)

    with pytest.raises(StageError, match="squeue -j 7"):
        end(services, ticking, grace_s=0.0)


def test_without_slurm_nothing_can_be_cancelled(
    services: Services, slurm: FakeSlurm, ticking: Ticking
) -> None:
    slurm.is_here = False

    with pytest.raises(StageError, match="has not SLURM's commands"):
        end(services, ticking)


def test_the_step_that_is_kept_is_said(services: Services, commit: Callable[[int], None]) -> None:
    assert "before its first commit. It begins again" in describe_stop(
        services.storage, services.run_name
    )

    commit(120)

    assert "stopped at step 120. It goes on from there" in describe_stop(
        services.storage, services.run_name
    )
