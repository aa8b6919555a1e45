"""Attempts at a training: which may begin, and what they leave."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from sigma_pipeline.infra.errors import BadNodes, MissingInputError, StageError, StoreRefuses
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.infra.tracking import StatusNote, noted_status
from sigma_pipeline.jobs import train
from sigma_pipeline.jobs.attempts import (
    Attempt,
    AttemptEnd,
    is_cancelled,
    mark_cancelled,
    read_attempts,
    read_verdict,
    record_end,
)
from sigma_pipeline.jobs.submission import record_submission
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_attempt import RecordedEnd, begin_attempt, note_cancelled
from sigma_pipeline.jobs.train_request import TrainRequest
from tests.jobs.attempt_records import end
from tests.jobs.snapshots import make_snapshot

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
    pytest.mark.usefixtures("one_rank"),
]

MakeRequest = Callable[..., TrainRequest]


def only_attempt(storage: Storage) -> Attempt:
    (attempt,) = read_attempts(storage, "tiny")
    return attempt


def test_a_training_records_where_it_began_and_that_it_finished(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    monkeypatch.setattr(train, "TimeLimit", lambda *_, **__: FarLimit())

    run_train(make_request(epochs=1))

    attempt = only_attempt(storage)
    assert attempt.record is not None
    assert (attempt.record.from_step, attempt.record.world_size) == (0, 1)
    assert (attempt.record.job_id, attempt.record.restart) == ("12", 3)
    assert attempt.end is not None
    assert (attempt.end.state, attempt.end.step) == ("finished", 2)
    assert cast(StatusNote, noted_status(storage, "tiny")).status == "RUNNING"


def test_a_training_stops_before_its_time_limit(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "TimeLimit", lambda *_, **__: NearLimit())

    result = run_train(make_request(epochs=50))

    assert result["state"] == "stopped"
    assert result["reason"] == "the time limit of the job comes near"
    assert cast(AttemptEnd, only_attempt(storage).end).state == "stopped"
    assert read_json(storage, f"{result['commit']}/commit.json")["step"] == result["step"]


def test_what_would_fail_again_is_said_to_be_final(
    storage: Storage, make_request: MakeRequest
) -> None:
    request = make_request()
    absent = replace(request, datasets=(replace(request.datasets[0], version="v2"),))

    with pytest.raises(MissingInputError):
        run_train(absent)

    ended = cast(AttemptEnd, only_attempt(storage).end)
    assert (ended.state, ended.is_final) == ("failed", True)
    assert "dataset 'noise'" in ended.reason
    assert "sigma-pipeline logs --stage shard" in ended.reason


def test_a_refusal_of_the_store_may_pass(storage: Storage, make_request: MakeRequest) -> None:
    attempt, step = begin_attempt(storage, make_request(), ["n1"])

    with pytest.raises(StoreRefuses):
        end_with(
            RecordedEnd(storage, "tiny", attempt, rank=0, step=step), StoreRefuses("ExpiredToken")
        )

    assert not cast(AttemptEnd, only_attempt(storage).end).is_final


def test_a_run_without_hope_is_given_up_before_it_begins(
    storage: Storage, make_request: MakeRequest
) -> None:
    request = make_request()
    for reason in ("it broke", "no space"):
        attempt, _ = begin_attempt(storage, request, ["n1"])
        record_end(storage, "tiny", attempt, end(reason=reason))
    begin_attempt(storage, request, ["n1"])  # its node died

    for _ in range(2):
        with pytest.raises(StageError, match=r"run 'tiny' was given up after 3 attempts in a row"):
            run_train(request)

    verdict = read_verdict(storage, "tiny")
    assert verdict is not None
    assert "its node died; no space; it broke" in verdict.reason
    assert len(read_attempts(storage, "tiny")) == 3


def test_failures_before_a_person_began_anew_do_not_count(
    storage: Storage, make_request: MakeRequest
) -> None:
    request = make_request(epochs=1)
    for _ in range(3):
        latest, _ = begin_attempt(storage, request, ["n1"])

    assert run_train(replace(request, failures_since=f"{latest}~"))["state"] == "finished"


def test_a_job_that_was_cancelled_does_not_begin(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    mark_cancelled(storage, "tiny", "12", "login")

    result = run_train(make_request())

    assert (result["state"], result["reason"]) == ("stopped", "cancelled")
    assert read_attempts(storage, "tiny") == []


def test_the_end_of_the_nodes_is_noted_beside_a_better_end(
    storage: Storage, make_request: MakeRequest
) -> None:
    attempt, step = begin_attempt(storage, make_request(), ["n1"])
    recorded = RecordedEnd(storage, "tiny", attempt, rank=0, step=step)

    recorded.note_taken()
    before = only_attempt(storage)
    recorded.keep("stopped", "signal SIGTERM", 7)

    assert before.end is not None
    assert (before.end.state, before.is_failure) == ("stopped", False)
    after = only_attempt(storage)
    assert after.is_taken
    assert cast(AttemptEnd, after.end).step == 7


def test_a_rank_that_learns_of_a_cancel_tells_the_jobs_that_would_go_on(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    snapshot = replace(make_snapshot(tmp_path), root_uri=storage.root_uri)
    for job_id in ("12", "13"):
        record_submission(snapshot, "train", job_id, tmp_path, world_size=1)

    note_cancelled(storage, "tiny")

    assert [is_cancelled(storage, "tiny", job_id) for job_id in ("11", "12", "13")] == [
        False,
        True,
        True,
    ]
    assert cast(StatusNote, noted_status(storage, "tiny")).status == "KILLED"


def test_the_rank_that_fails_first_tells_why(storage: Storage, make_request: MakeRequest) -> None:
    attempt, step = begin_attempt(storage, make_request(), ["n1", "n2"])

    with pytest.raises(ZeroDivisionError):
        end_with(RecordedEnd(storage, "tiny", attempt, rank=1, step=7), ZeroDivisionError("a\nb"))
    with pytest.raises(ConnectionError):
        end_with(RecordedEnd(storage, "tiny", attempt, rank=0, step=step), ConnectionError("lost"))

    ended = cast(AttemptEnd, only_attempt(storage).end)
    assert ended.reason == "rank 1: ZeroDivisionError: a"
    assert (ended.state, ended.step, ended.is_final) == ("failed", 7, False)


def test_a_lost_connection_is_no_word_on_why(
    storage: Storage, make_request: MakeRequest, caplog: pytest.LogCaptureFixture
) -> None:
    attempt, step = begin_attempt(storage, make_request(), ("n1", "n2"))
    lost = RuntimeError("[/gloo/transport/tcp/pair.cc:547] Connection reset by peer [n2]:4711")

    with pytest.raises(RuntimeError):
        end_with(RecordedEnd(storage, "tiny", attempt, rank=0, step=step), lost)

    assert only_attempt(storage).end is None
    assert "The connection to another rank was lost" in caplog.text


def test_bad_nodes_are_kept_by_name(storage: Storage, make_request: MakeRequest) -> None:
    attempt, step = begin_attempt(storage, make_request(), ["n1", "n2"])
    error = BadNodes("rank 1 on n2 has no GPU", ("n2",))

    with pytest.raises(BadNodes):
        end_with(RecordedEnd(storage, "tiny", attempt, rank=0, step=step), error)

    assert cast(AttemptEnd, only_attempt(storage).end).bad_nodes == ("n2",)


def end_with(recorded: RecordedEnd, error: Exception) -> None:
    with recorded:
        raise error


class FarLimit:
    """A time limit that does not come."""

    def is_near(self, lead_s: float) -> bool:
        """Never."""
        return lead_s > 1e9

    def close(self) -> None:
        """Nothing to close."""


class NearLimit(FarLimit):
    """One that is always near."""

    def is_near(self, lead_s: float) -> bool:
        """Near enough for the margin that is always kept."""
        return lead_s >= 10
