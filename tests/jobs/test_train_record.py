"""Numbers in the journal, the line of progress, and where the time went."""

import logging
from dataclasses import replace

import pytest
import torch

from sigma_pipeline.infra.journal import Journal, read_entries
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import train_record
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.pace import Pace
from sigma_pipeline.jobs.time_ledger import TimeLedger
from sigma_pipeline.jobs.train_record import TrainRecord, Workload
from sigma_pipeline.jobs.train_step import StepOutcome

OUTCOME = StepOutcome({"loss": torch.tensor(2.5), "loss_target": torch.tensor(1.5)}, 0.25, True)


WORK = Workload(total_steps=9, global_batch_clips=8)


def make_record(
    context: RankContext, journal: Journal | None, seconds: float = 0.0, work: Workload = WORK
) -> TrainRecord:
    """A record whose steps took ``seconds``, a quarter of it waiting for data."""
    ledger = TimeLedger()
    record = TrainRecord(context, journal, ledger, Pace(context.device), work)
    ledger.add({"productive_s": 0.75 * seconds, "data_wait_s": 0.25 * seconds})
    ledger.add({"commit_wait_s": 100.0})
    return record


def test_numbers_are_named_by_stage_and_unit(one_rank: RankContext, storage: Storage) -> None:
    journal = Journal(storage, "run", "a", "train")
    record = make_record(one_rank, journal, 4.0)

    record.count()
    record.count()
    record.write(2, OUTCOME, 0.125, {"replaced_samples": 3})
    journal.close()

    entries, _ = read_entries(storage, "run")
    values = dict(entries[0].fields["values"])
    times = {name: values.pop(name) for name in list(values) if name.startswith("time/")}
    assert times["time/commit_wait_s"] == 100.0
    assert 0.9 < times["time/commit_wait_share"] < 1
    assert entries[0].fields["step"] == 2
    assert values.pop("train/peak_memory_gib") > 0.05
    assert values == {
        "train/loss": 2.5,
        "train/loss_target": 1.5,
        "train/lr": 0.125,
        "train/gradient_norm": 0.25,
        "train/replaced_samples": 3,
        "train/warnings": 0,
        "train/clips_per_s": 4.0,
        "train/data_wait_fraction": 0.25,
    }


def test_ranks_without_a_journal_write_nothing(one_rank: RankContext, storage: Storage) -> None:
    record = make_record(one_rank, None, 1.0)

    record.count()
    record.write(1, OUTCOME, 0.1, {})

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
    record = TrainRecord(one_rank, journal, ledger, Pace(one_rank.device), WORK)

    for step, at_s in ((1, 1010.0), (2, 1031.0), (3, 1040.0), (9, 1041.0)):
        now[0] = at_s
        ledger.add({"productive_s": 4.0})
        record.count()
        record.write(step, OUTCOME, 0.1, {})

    lines = [line.getMessage() for line in caplog.records if "Step" in line.getMessage()]
    assert [line.partition(":")[0] for line in lines] == ["Step 2 of 9", "Step 9 of 9"]


def test_collapse_is_warned_of_once_until_it_is_over(
    one_rank: RankContext, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    journal, ledger = Journal(storage, "run", "a", "train"), TimeLedger()
    record = TrainRecord(one_rank, journal, ledger, Pace(one_rank.device), WORK)

    for step, rank in enumerate([9.0, 1.1, 1.2, 9.0, 1.3]):
        record.count()
        ledger.add({"productive_s": 1.0})
        numbers = {"loss": torch.tensor(2.5), "effective_rank_target": torch.tensor(rank)}
        record.write(step, StepOutcome(numbers, 0.25, True), 0.1, {})
    journal.close()

    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [warning[:40] for warning in warnings] == [
        "Step 1: effective_rank_target is 1.1: fe",
        "Step 4: effective_rank_target is 1.3: fe",
    ]


def test_a_spike_of_the_loss_is_warned_of_once_an_episode_and_told_in_the_journal(
    one_rank: RankContext, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    journal, ledger = Journal(storage, "run", "a", "train"), TimeLedger()
    record = TrainRecord(one_rank, journal, ledger, Pace(one_rank.device), WORK)

    for step, loss in enumerate([*[2.0, 2.01] * 12, 9.0, 8.0, 2.0, 7.0], start=1):
        record.count()
        ledger.add({"productive_s": 1.0})
        record.write(step, StepOutcome({"loss": torch.tensor(loss)}, 0.25, True), 0.1, {})
    journal.close()

    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [warning.partition(";")[0] for warning in warnings] == [
        "Step 25: the loss is 9, where 2.005 was usual",
        "Step 28: the loss is 7, where 2.01 was usual",
    ]
    entries, _ = read_entries(storage, "run")
    counts = [e.fields["values"]["train/warnings"] for e in entries if e.kind == "metrics"]
    assert counts[23:] == [0, 1, 1, 0, 1]
    assert [e.fields["values"]["train/warning"][:8] for e in entries if e.kind == "tags"] == [
        "step 25:",
        "step 28:",
    ]


def test_the_slowest_rank_is_the_one_that_works_longest_before_it_waits(
    one_rank: RankContext,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    # Seconds in steps, of waiting for data, before it waits for others; GiB. All end together.
    told = [(9.0, 1.0, 4.0, 0.5), (8.0, 2.0, 8.0, 0.25), (9.0, 1.0, 3.0, 0.5)]
    monkeypatch.setattr(RankContext, "all_gather", lambda _context, _own: told)
    monkeypatch.setattr(RankContext, "reduce", lambda _context, values, _operation: 3 * values)
    three = replace(one_rank, world_size=3, hosts=("n1", "n2", "n3"))
    work = replace(WORK, clip_flops=10**12, peak_flops=1e13)
    journal = Journal(storage, "run", "a", "train")
    record = make_record(three, journal, 10.0, work)

    record.count()
    record.write(9, OUTCOME, 0.125, {})
    journal.close()

    values = read_entries(storage, "run")[0][0].fields["values"]
    assert (values["train/slowest_rank"], values["train/slowest_rank_lag"]) == (1, 8 / 5)
    assert values["train/data_wait_fraction"] == 0.2
    assert values["train/mfu"] == pytest.approx(8 / 10 * 1e12 / 3e13)
    assert "0.50 GiB, MFU 2.7%, rank 1 on n2 slow by 60%" in caplog.text
