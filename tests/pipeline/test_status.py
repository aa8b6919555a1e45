"""What a person reads about a run: from SLURM where it can be asked, and from the store."""

import time
from collections.abc import Callable, Iterator

import pytest

from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import write_json
from sigma_pipeline.jobs.attempts import (
    AttemptEnd,
    AttemptRecord,
    Verdict,
    record_end,
    register_attempt,
    write_verdict,
)
from sigma_pipeline.jobs.commits import manifest_key
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.run_state import gather_state
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.status import describe_run
from tests.pipeline.slurm_fake import FakeSlurm

NOW_MS = 1_800_000_000_000
HOUR_S = 3600
Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def lines(config: PipelineConfig, services: Services) -> Lines:
    """What is shown now, without the indent."""
    return lambda: [
        line[10:] if line[:1] == " " else line
        for line in describe_run(gather_state(config, services.storage, NOW_MS))
    ]


def begin(
    services: Services, from_step: int, *, started_ms: int = NOW_MS - 2000 * HOUR_S, **facts: object
) -> str:
    record = AttemptRecord(
        host="n1",
        pid=1,
        world_size=2,
        config_fingerprint="",
        started_ms=started_ms,
        from_step=from_step,
        nodes=("n1", "n2", "n2"),
        **facts,  # type: ignore[arg-type]
    )
    return register_attempt(services.storage, services.run_name, record)


def end(services: Services, attempt: str, state: str, reason: str, step: int) -> None:
    record = AttemptEnd(state=state, reason=reason, step=step, ended_ms=NOW_MS - 1000 * HOUR_S)  # type: ignore[arg-type]
    record_end(services.storage, services.run_name, attempt, record)


def write_steps(
    services: Services, attempt: str, steps: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds a step; the last one half a minute ago."""
    pen = Journal(services.storage, services.run_name, attempt, "train")
    for step in steps:
        ago_s = 30 + 2 * (steps[-1] - step)
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda ago_s=ago_s: (NOW_MS - 1000 * ago_s) * 1_000_000)
            pen.metrics(
                step,
                {
                    "train/loss": 7.0,
                    "train/slowest_rank": 3.0,
                    "train/slowest_rank_lag": 1.25,
                },
            )
    pen.close()


def test_before_anything_is_there(lines: Lines, slurm: FakeSlurm) -> None:
    assert lines()[1:] == [
        "shard     clips/train: not there yet",
        "clips/val: not there yet",
        "train     not begun",
        "evaluate  not begun",
    ]


@pytest.mark.usefixtures("sharded")
def test_a_running_training_is_shown_with_its_rate_and_its_end(
    services: Services,
    slurm: FakeSlurm,
    lines: Lines,
    commit: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = NOW_MS / 1000
    slurm.submit(
        "7",
        "RUNNING",
        restarts=1,
        start_time_s=now_s - HOUR_S,
        end_time_s=now_s + 2 * HOUR_S,
    )
    first = begin(services, 0, job_id="7")
    end(services, first, "stopped", "the time limit comes near", 500)
    commit(500)
    write_steps(services, begin(services, 500, job_id="7"), range(501, 601), monkeypatch)

    shown = lines()[3:]

    assert shown == [
        "train     goes on",
        "SLURM job 7 runs on n[1-2] since 2027-01-15 07:00, 2 h 00 min of its time limit left, "
        "queued again once",
        "step 600 of 1600 (37.5 %), loss 7.0000, 0 min 30 s ago",
        "256.0 clips/s, 2 s per step, 33 min 20 s left: done 2027-01-15 08:33; "
        "slowest is rank 3, 25 % over the mean",
        "newest commit: step 500",
        "attempt 2 since 2027-01-15 06:00 from step 500 on n1, n2: no end is known",
        "attempt 1 from step 0 on n1, n2: stopped at step 500, 2027-01-15 07:00: "
        "the time limit comes near",
        "evaluate  not begun",
    ]


def test_a_job_in_the_queue_is_shown_with_the_reason(slurm: FakeSlurm, lines: Lines) -> None:
    slurm.submit(
        "7", "PENDING", reason="BeginTime", start_time_s=NOW_MS / 1000 + HOUR_S, restarts=2
    )

    assert lines()[3:5] == [
        "train     waits for SLURM to start it",
        "SLURM job 7 waits (BeginTime, not before 2027-01-15 09:00, queued again 2 times)",
    ]


def test_a_run_that_was_given_up_says_why(
    services: Services, slurm: FakeSlurm, lines: Lines
) -> None:
    slurm.submit("7", "FAILED", exit_code="1:0", end_time_s=NOW_MS / 1000)
    write_verdict(
        services.storage,
        services.run_name,
        Verdict(reason="given up after 3 attempts in a row", attempts=3, step=0, time_ms=NOW_MS),
    )

    assert lines()[3:5] == [
        "train     given up after 3 attempts in a row",
        "SLURM job 7 has ended: FAILED, status 1:0, 2027-01-15 08:00",
    ]


@pytest.mark.parametrize("is_silent", [True, False])
def test_without_slurm_the_store_is_shown_and_that_is_said(
    *, slurm: FakeSlurm, lines: Lines, is_silent: bool
) -> None:
    slurm.submit("7", "RUNNING")
    slurm.is_silent = slurm.is_here = is_silent

    shown = lines()

    problem = "SLURM did not answer" if is_silent else "this machine has not its commands"
    assert shown[1] == f"SLURM cannot be asked: {problem}. This is what the store knows."
    assert "train     does not go on; committed up to step 0" in shown


@pytest.mark.usefixtures("sharded")
def test_a_finished_training_is_not_said_to_take_any_longer(
    services: Services,
    slurm: FakeSlurm,
    lines: Lines,
    commit: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_steps(services, begin(services, 0), range(1, 5), monkeypatch)
    commit(4)
    write_json(services.storage, manifest_key(services.run_name), {})

    shown = "\n".join(lines())

    assert "train     finished at step 4" in shown
    assert "step 4 of 4 (100.0 %)" in shown  # though the recipe's epochs would be 1600 steps
    assert "newest commit: step 4, 0 min 30 s ago" in shown
    assert "left" not in shown


def test_an_evaluation_that_nobody_goes_on_with_is_said_to_need_a_command(
    config: PipelineConfig, services: Services, slurm: FakeSlurm
) -> None:
    def evaluation(num_missing: int = 1) -> str:
        state = gather_state(config, services.storage, NOW_MS)
        return "\n".join(describe_run(state, num_missing=num_missing)).partition("evaluate  ")[2]

    hint = "give the command sigma-pipeline run --stage evaluate"
    slurm.submit("7", "COMPLETED")
    slurm.submit("8", "PENDING", stage="evaluate")
    assert hint not in evaluation()
    write_json(services.storage, manifest_key(services.run_name), {})
    assert hint not in evaluation()

    slurm.turn("8", "FAILED")

    assert hint in evaluation()
    assert hint not in evaluation(0)


def test_a_local_training_goes_on_as_long_as_numbers_come(
    services: Services, slurm: FakeSlurm, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = begin(services, 0)
    write_steps(services, attempt, range(1, 5), monkeypatch)
    running = lines()
    end(services, attempt, "failed", "disk full", 4)

    assert "train     goes on" in running
    assert "train     does not go on; committed up to step 0" in lines()


def test_a_local_training_that_has_just_begun_goes_on(
    services: Services, slurm: FakeSlurm, lines: Lines
) -> None:
    begin(services, 0, started_ms=NOW_MS - 10_000)

    assert "train     goes on" in lines()
