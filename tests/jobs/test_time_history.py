"""Time between attempts, read from what attempts, submissions and journals left in the store."""

from dataclasses import asdict
from typing import Any

import pytest

from sigma_pipeline.infra import journal as journal_module
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.attempts import AttemptEnd, AttemptRecord, record_end, register_attempt
from sigma_pipeline.jobs.submission import Submission
from sigma_pipeline.jobs.time_history import evaluation_s, time_before


def register(storage: Storage, started_ms: int) -> str:
    record = AttemptRecord(
        host="n1",
        pid=1,
        world_size=1,
        config_fingerprint="f",
        started_ms=started_ms,
        from_step=0,
        job_id="7",
    )
    return register_attempt(storage, "tiny", record)


def submit(storage: Storage, **changed: Any) -> None:
    submission = Submission(
        submission="s",
        stage="train",
        job_id="7",
        job_name="",
        cluster="slurm",
        folder="/shared",
        world_size=1,
        time_ms=100_000,
        step=None,
        snapshot="c",
    )
    plain = asdict(submission) | changed
    write_json(storage, f"runs/tiny/submitted/{plain['submission']}.json", plain)


def test_an_attempt_that_nobody_saw_end_lived_until_its_last_numbers(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(storage)
    submit(storage, submission="e", stage="evaluate", time_ms=90_000)
    died = register(storage, 130_000)
    journal = Journal(storage, "tiny", died, "train")
    monkeypatch.setattr(journal_module.time, "time_ns", lambda: 190_000 * 1_000_000)
    journal.metrics(5, {"train/loss": 1.0})
    journal.flush()
    stopped = register(storage, 250_000)
    end = AttemptEnd(state="stopped", reason="time limit", step=9, ended_ms=300_000)
    record_end(storage, "tiny", stopped, end)
    newest = register(storage, 310_000)

    spent = time_before(storage, "tiny", newest, 310_000, {"queue_s": 30.0, "productive_s": 20.0})

    assert spent == {
        "queue_s": 30 + 60 + 10,
        "productive_s": 20,
        "lost_s": 40,
        "restart_s": 50,  # it committed nothing, but stopped when asked to
    }


def test_evaluation_is_the_sum_over_its_finished_cells(storage: Storage) -> None:
    folder = "runs/tiny/evaluate/step-00000004/knn/noise"
    for seed in (0, 1):
        write_json(storage, f"{folder}/{seed}-{'ab' * 8}.json", {"seconds": 2.5})
    write_json(storage, f"{folder}/view.json", {"other": 1})

    assert evaluation_s(storage, "tiny") == 5
