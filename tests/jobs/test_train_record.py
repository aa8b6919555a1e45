"""Numbers in the journal, the line of progress, and where the time went."""

import logging

import pytest
import torch

from sigma_pipeline.infra.journal import Journal, read_entries
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import train_record
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.train_record import TimeLedger, TrainRecord, duration
from sigma_pipeline.jobs.train_step import StepOutcome

OUTCOME = StepOutcome({"loss": torch.tensor(2.5), "loss_target": torch.tensor(1.5)}, 0.25, True)


def make_record(context: RankContext, journal: Journal | None, seconds: float) -> TrainRecord:
    """A record whose steps took ``seconds``, a quarter of it waiting for data."""
    ledger = TimeLedger()
    record = TrainRecord(context, journal, ledger, total_steps=9, global_batch_clips=8)
    ledger.add({"step_s": 0.75 * seconds, "data_wait_s": 0.25 * seconds, "commit_s": 100.0})
    return record


def test_numbers_are_named_by_stage_and_unit(one_rank: RankContext, storage: Storage) -> None:
    journal = Journal(storage, "run", "a", "train")
    record = make_record(one_rank, journal, 4.0)

    record.count()
    record.count()
    record.write(2, OUTCOME, 0.125, 3)
    journal.close()

    entries, _ = read_entries(storage, "run")
    values = entries[0].fields["values"]
    assert entries[0].fields["step"] == 2
    assert values.pop("train/peak_memory_gib") > 0.05
    assert values == {
        "train/loss": 2.5,
        "train/loss_target": 1.5,
        "train/lr": 0.125,
        "train/gradient_norm": 0.25,
        "train/replaced_samples": 3,
        "train/clips_per_s": 4.0,
        "train/data_wait_fraction": 0.25,
    }


def test_ranks_without_a_journal_write_nothing(one_rank: RankContext, storage: Storage) -> None:
    record = make_record(one_rank, None, 1.0)

    record.count()
    record.write(1, OUTCOME, 0.1, 0)
    record.flush()

    assert storage.list("runs") == []


def test_progress_is_shown_by_time_and_at_the_end(
    one_rank: RankContext,
    storage: Storage,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    now = [1000.0]
    monkeypatch.setattr(train_record.time, "monotonic", lambda: now[0])
    ledger, journal = TimeLedger(), Journal(storage, "run", "a", "train")
    record = TrainRecord(one_rank, journal, ledger, total_steps=9, global_batch_clips=8)

    for step, at_s in ((1, 1010.0), (2, 1031.0), (3, 1040.0), (9, 1041.0)):
        now[0] = at_s
        ledger.add({"step_s": 4.0})
        record.count()
        record.write(step, OUTCOME, 0.1, 0)

    lines = [line.getMessage() for line in caplog.records if "Step" in line.getMessage()]
    assert [line.partition(":")[0] for line in lines] == ["Step 2 of 9", "Step 9 of 9"]


def test_time_is_counted_also_when_the_block_fails() -> None:
    ledger = TimeLedger()

    with pytest.raises(ValueError, match="x"), ledger.spent_on("step_s"):
        raise ValueError("x")

    assert ledger.seconds["step_s"] >= 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 min 00 s"), (75, "1 min 15 s"), (3660 * 25, "25 h 25 min")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_collapse_is_warned_of_once_until_it_is_over(
    one_rank: RankContext, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    journal, ledger = Journal(storage, "run", "a", "train"), TimeLedger()
    record = TrainRecord(one_rank, journal, ledger, total_steps=9, global_batch_clips=8)

    for step, rank in enumerate([9.0, 1.1, 1.2, 9.0, 1.3]):
        record.count()
        ledger.add({"step_s": 1.0})
        numbers = {"loss": torch.tensor(2.5), "effective_rank_target": torch.tensor(rank)}
        record.write(step, StepOutcome(numbers, 0.25, True), 0.1, 0)
    journal.close()

    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [warning[:40] for warning in warnings] == [
        "Step 1: effective_rank_target is 1.1: fe",
        "Step 4: effective_rank_target is 1.3: fe",
    ]
