"""Only the newest attempt may commit, whatever the clocks of the nodes say; and when to give up."""

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.attempts import (
    attempts_without_progress,
    delete_verdict,
    is_cancelled,
    mark_cancelled,
    note_taken,
    read_attempts,
    read_verdict,
    record_end,
    register_attempt,
    require_newest,
    verdict_on,
    write_verdict,
)
from tests.jobs.attempt_records import end, put_attempt, record


def test_the_newest_attempt_passes_and_an_older_one_is_fenced(storage: Storage) -> None:
    first = register_attempt(storage, "run", record())
    require_newest(storage, "run", first)

    second = register_attempt(storage, "run", record())

    require_newest(storage, "run", second)
    with pytest.raises(StageError, match=f"attempt {first} .* overtaken by attempt {second}"):
        require_newest(storage, "run", first)


def test_a_node_whose_clock_is_behind_still_becomes_the_newest(storage: Storage) -> None:
    ahead = "29991231T235959999999-abcdef"
    write_json(storage, f"runs/run/train/attempts/{ahead}.json", {})

    attempt = register_attempt(storage, "run", record())

    assert attempt > ahead
    require_newest(storage, "run", attempt)


def test_attempts_of_other_runs_do_not_matter(storage: Storage) -> None:
    mine = register_attempt(storage, "run", record())
    register_attempt(storage, "run-2", record())

    require_newest(storage, "run", mine)


def test_what_is_known_of_attempts_is_kept_in_their_order(storage: Storage) -> None:
    ended = end("stopped", "signal SIGUSR2", bad_nodes=("n2",))
    first = put_attempt(storage, job_id="12", ended=ended)
    second = put_attempt(storage, job_id="12", restart=1, from_step=40)

    attempts = read_attempts(storage, "run")

    assert [attempt.name for attempt in attempts] == [first, second]
    assert [attempt.record for attempt in attempts] == [
        record(job_id="12"),
        record(40, job_id="12", restart=1),
    ]
    assert [attempt.end for attempt in attempts] == [ended, None]


def test_the_first_word_of_an_end_stays(storage: Storage) -> None:
    attempt = put_attempt(storage)

    assert record_end(storage, "run", attempt, end(reason="a rank was killed"))
    assert not record_end(storage, "run", attempt, end(reason="connection closed by peer"))

    (kept,) = read_attempts(storage, "run")
    assert kept.end is not None
    assert kept.end.reason == "a rank was killed"


def test_nodes_that_were_taken_excuse_an_attempt_that_could_not_say_more(storage: Storage) -> None:
    silent = put_attempt(storage, from_step=40)
    note_taken(storage, "run", silent, 40)
    orderly = put_attempt(storage, from_step=40, ended=end("stopped", "signal SIGTERM", step=44))
    note_taken(storage, "run", orderly, 40)
    broken = put_attempt(storage, from_step=44, ended=end("failed", "no space", step=44))
    note_taken(storage, "run", broken, 44)

    ends = [(one.is_failure, one.is_idle, one.end) for one in read_attempts(storage, "run")]

    assert [(fails, is_idle) for fails, is_idle, _ in ends] == [(False, False)] * 2 + [
        (True, False)
    ]
    assert [(one.reason, one.step) for *_, one in ends if one] == [
        ("SLURM took its nodes away", 40),
        ("signal SIGTERM", 44),
        ("no space", 44),
    ]


@pytest.mark.parametrize(("step", "is_idle"), [(40, True), (41, False)])
def test_a_stop_without_a_step_is_idle(storage: Storage, step: int, is_idle: bool) -> None:
    put_attempt(storage, from_step=40, ended=end("stopped", step=step))

    (attempt,) = read_attempts(storage, "run")
    assert attempt.is_idle == is_idle


def test_a_damaged_record_is_named(storage: Storage) -> None:
    write_json(storage, "runs/run/train/attempts/a.json", {"host": "n1"})

    with pytest.raises(StageError, match=r"attempts/a\.json is damaged: .*missing"):
        read_attempts(storage, "run")


def test_attempts_count_until_one_brought_a_commit(storage: Storage) -> None:
    put_attempt(storage, from_step=0, ended=end())
    put_attempt(storage, from_step=0, ended=end())  # brought step 40
    failed = put_attempt(storage, from_step=40, ended=end())
    stopped = put_attempt(storage, from_step=40, ended=end("stopped"))
    vanished = put_attempt(storage, from_step=40)

    latest = attempts_without_progress(storage, "run", 40)

    assert [attempt.name for attempt in latest] == [vanished, stopped, failed]
    assert [attempt.name for attempt in latest if attempt.is_failure] == [vanished, failed]
    assert attempts_without_progress(storage, "run", 60) == []


def test_an_attempt_that_did_not_come_to_register_counts(storage: Storage) -> None:
    put_attempt(storage, from_step=0, ended=end())
    unregistered = new_attempt()
    record_end(storage, "run", unregistered, end("died", step=40))

    (latest,) = attempts_without_progress(storage, "run", 40)

    assert latest.name == unregistered
    assert latest.is_failure


def test_what_failed_before_a_person_began_anew_does_not_count(storage: Storage) -> None:
    put_attempt(storage, ended=end())
    since = new_attempt()
    later = put_attempt(storage, ended=end())

    assert [one.name for one in attempts_without_progress(storage, "run", 0, since)] == [later]


def test_a_verdict_says_how_often_where_and_why(storage: Storage) -> None:
    for reason in ("no space", "no space", "a rank was killed"):
        put_attempt(storage, ended=end(reason=reason))
    put_attempt(storage)
    failures = attempts_without_progress(storage, "run", 0)

    write_verdict(storage, "run", verdict_on(failures, step=0, log_path="/logs"))

    verdict = read_verdict(storage, "run")
    assert verdict is not None
    assert (verdict.attempts, verdict.step) == (4, 0)
    assert verdict.reason == (
        "given up after 4 attempts in a row without a commit after step 0, the newest first: its "
        "node died; a rank was killed; no space (logs: /logs); when the cause is gone, "
        "`sigma-pipeline run --stage train` tries anew"
    )
    delete_verdict(storage, "run")
    assert read_verdict(storage, "run") is None


def test_only_the_job_that_was_cancelled_is(storage: Storage) -> None:
    mark_cancelled(storage, "run", "12", "login")
    mark_cancelled(storage, "run", "12", "login")

    assert is_cancelled(storage, "run", "12")
    assert not is_cancelled(storage, "run", "13")
    assert not is_cancelled(storage, "run-2", "12")


def test_an_attempt_that_went_on_from_before_a_damaged_commit_has_got_on(storage: Storage) -> None:
    got_on = put_attempt(storage, from_step=100, ended=end())  # of step 100 nothing can be read
    failed = put_attempt(storage, from_step=100, ended=end())
    storage.write(f"runs/run/train/step-00000090/{got_on}/commit.json", b"{}")

    assert [one.name for one in attempts_without_progress(storage, "run", 100)] == [failed]
