"""What follows an attempt, case by case."""

from typing import Any

import pytest

from sigma_pipeline.jobs.attempts import Attempt, AttemptEnd
from sigma_pipeline.jobs.next_attempt import Policy, Situation, decide
from sigma_pipeline.jobs.slurm import JobView
from tests.jobs.attempt_records import end, record

POLICY = Policy(continue_by="requeue", max_attempts_without_progress=3, backoff_s=60)
CHAIN = Policy(continue_by="chain", max_attempts_without_progress=3, backoff_s=60)
RUNNING = JobView(job_id="7", state="RUNNING", restarts=1)
BEING_CANCELLED = JobView(job_id="7", state="COMPLETING", restarts=1)
AT_ITS_LIMIT = JobView(job_id="7", state="COMPLETING", restarts=1, reason="TimeLimit")
TAKEN_BACK = JobView(job_id="7", state="COMPLETING", restarts=2)
PREEMPTED = JobView(job_id="7", state="RUNNING", restarts=1, preempt_time_s=1e9)
STOPPED = end("stopped", "signal SIGUSR2", step=45)
IDLE = end("stopped", "the time limit of the job comes near", step=40)
FAILED = end("failed", "it broke", bad_nodes=("n2",))


def situation(own_end: Any = None, **changes: Any) -> Situation:
    """After the second life of a job, which began at step 40 and brought no commit."""
    attempt = Attempt("this", record(40, job_id="7", restart=1), own_end)
    known = {"status": 1, "restart": 1, "job": RUNNING, "newest_step": 40, "attempt": attempt}
    return Situation(**{**known, **changes})


def failed_before(times: int) -> tuple[Attempt, ...]:
    return before(FAILED, times)


def before(ended: AttemptEnd, times: int, *, is_taken: bool = False) -> tuple[Attempt, ...]:
    names = [f"before-{number}" for number in range(times)]
    return tuple(Attempt(name, record(40), ended, is_taken) for name in names)


@pytest.mark.parametrize(
    ("known", "action", "exit_status", "state"),
    [
        (situation(end("finished", ""), is_finished=True, status=0), "nothing", 0, "finished"),
        (situation(is_finished=True), "nothing", 0, "finished"),
        (situation(STOPPED, status=0), "requeue", 0, "stopped"),
        (situation(FAILED), "requeue", 0, "failed"),
        (situation(), "requeue", 0, "died"),
        (situation(attempt=None), "requeue", 0, "died"),
        (situation(attempt=None, status=0), "requeue", 0, "died"),
        (situation(job=AT_ITS_LIMIT), "requeue", 0, "died"),
        (situation(job=None), "requeue", 0, "died"),
        (situation(job=PREEMPTED, attempt=None), "requeue", 0, "stopped"),
        (situation(STOPPED, job=TAKEN_BACK), "nothing", 0, "stopped"),
        (situation(job=TAKEN_BACK), "nothing", 0, "stopped"),
        (situation(job=BEING_CANCELLED), "nothing", 75, "stopped"),
        (situation(STOPPED, is_marked=True, status=0), "nothing", 75, "stopped"),
        (situation(is_marked=True, attempt=None, status=0), "nothing", 75, "stopped"),
        (situation(is_given_up=True, attempt=None), "nothing", 1, "died"),
        (situation(earlier=failed_before(1)), "requeue", 0, "died"),
        (situation(earlier=failed_before(2)), "give_up", 1, "died"),
        (situation(STOPPED, earlier=failed_before(9)), "requeue", 0, "stopped"),
        (situation(job=TAKEN_BACK, earlier=failed_before(9)), "nothing", 0, "stopped"),
        (situation(newest_step=41), "requeue", 0, "died"),
        (situation(IDLE, earlier=before(IDLE, 28)), "requeue", 0, "stopped"),
        (situation(IDLE, earlier=before(IDLE, 29)), "give_up", 1, "stopped"),
        (situation(IDLE, earlier=before(IDLE, 29, is_taken=True)), "requeue", 0, "stopped"),
        (situation(IDLE, earlier=before(IDLE, 29), job=PREEMPTED), "requeue", 0, "stopped"),
        (situation(FAILED, overtaken_by="9"), "nothing", 1, "failed"),
        (situation(STOPPED, overtaken_by="9", status=0), "nothing", 1, "stopped"),
        (situation(end(is_final=True)), "give_up", 1, "failed"),
        (situation(end(is_final=True), newest_step=41), "give_up", 1, "failed"),
        (situation(is_blind=True, attempt=None, restart=50), "requeue", 0, "died"),
    ],
)
def test_what_follows(known: Situation, action: str, exit_status: int, state: str) -> None:
    decision = decide(known, POLICY)

    assert (decision.action, decision.exit_status) == (action, exit_status)
    assert decision.end.state == state
    is_end = exit_status != 0 and known.overtaken_by is None
    assert (decision.run_status is not None) == is_end


@pytest.mark.parametrize(
    ("known", "exit_status"), [(situation(STOPPED), 75), (situation(FAILED), 1)]
)
def test_in_a_chain_the_next_job_is_there_already(known: Situation, exit_status: int) -> None:
    decision = decide(known, CHAIN)

    assert (decision.action, decision.exit_status) == ("next_link", exit_status)
    assert decision.after_s == (60 if exit_status == 1 else 0)
    assert decision.run_status is None


@pytest.mark.parametrize(
    ("known", "after_s"),
    [
        (situation(STOPPED), 0),
        (situation(IDLE), 60),
        (situation(IDLE, earlier=before(IDLE, 2)), 240),
        (situation(IDLE, job=PREEMPTED), 0),
        (situation(), 60),
        (situation(newest_step=41), 60),
        (situation(earlier=failed_before(1)), 120),
        (situation(is_blind=True, attempt=None, restart=5000), 60),
    ],
)
def test_each_failure_doubles_the_wait(known: Situation, after_s: float) -> None:
    assert decide(known, POLICY).after_s == after_s


def test_bad_nodes_are_left_out_of_the_next_attempt() -> None:
    assert decide(situation(FAILED), POLICY).without == ("n2",)


def test_stops_between_failures_neither_count_nor_start_the_count_again() -> None:
    stopped = Attempt("stopped", record(40), STOPPED)

    decision = decide(situation(earlier=[stopped, *failed_before(2)]), POLICY)

    assert decision.action == "give_up"
    assert [one.name for one in decision.failures] == ["this", "before-0", "before-1"]


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (situation(status=137), "ended without a word, killed by SIGKILL, or out of memory"),
        (situation(status=143), "ended without a word, killed by SIGTERM"),
        (situation(status=1), "ended without a word, exit status 1"),
        (
            situation(status=127, attempt=None),
            "ended before it began to train, exit status 127; its log says why",
        ),
        (situation(job=AT_ITS_LIMIT), "its time limit came before it had saved"),
        (situation(job=BEING_CANCELLED), "cancelled"),
        (situation(job=PREEMPTED), "preempted by another job"),
        (situation(job=TAKEN_BACK), "SLURM took its nodes away and queued it again"),
    ],
)
def test_an_attempt_that_said_nothing_is_explained(known: Situation, reason: str) -> None:
    assert decide(known, POLICY).end.reason == reason


@pytest.mark.parametrize(
    ("known", "status"),
    [
        (situation(job=BEING_CANCELLED), "KILLED"),
        (situation(earlier=failed_before(2)), "FAILED"),
        (situation(is_given_up=True), "FAILED"),
    ],
)
def test_the_end_of_the_run_is_told_to_mlflow(known: Situation, status: str) -> None:
    assert decide(known, POLICY).run_status == status
