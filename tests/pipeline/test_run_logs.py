"""Logs of a run: the right file is found, and followed as long as somebody may write to it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sigma_pipeline.infra.errors import MissingInputError
from sigma_pipeline.infra.storage import write_json
from sigma_pipeline.jobs.submission import JobStage
from sigma_pipeline.pipeline.run_logs import RunLogs
from sigma_pipeline.pipeline.services import Services
from tests.pipeline.slurm_fake import FakeSlurm

Open = Callable[..., RunLogs]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the fake SLURM's jobs log."""
    return tmp_path / "jobs"


@pytest.fixture
def remarks() -> list[str]:
    return []


@pytest.fixture
def open_logs(services: Services, shown: list[str], remarks: list[str]) -> Open:
    """The logs of the run."""

    def open_them(stage: JobStage = "train", rank: int | None = None) -> RunLogs:
        return RunLogs(
            services.storage,
            services.run_name,
            stage,
            rank,
            show=shown.append,
            remark=remarks.append,
        )

    return open_them


def test_the_last_lines_of_the_job_that_began_last_are_shown(
    slurm: FakeSlurm, folder: Path, open_logs: Open, shown: list[str], remarks: list[str]
) -> None:
    slurm.submit("7", "FAILED")
    slurm.submit("8", "RUNNING")
    slurm.submit("9", "PENDING")  # the next member of a chain
    (folder / "7_0_log.err").write_text("old\n")
    (folder / "8_0_log.err").write_text("one\ntwo\nthree\n")

    open_logs().show_last(2)

    assert shown == ["two", "three"]
    assert remarks == [f"job 8: {folder}/8_0_log.err"]


def test_ranks_and_tasks_of_arrays_have_files_of_their_own(
    slurm: FakeSlurm, folder: Path, open_logs: Open, shown: list[str]
) -> None:
    slurm.submit("7", "RUNNING")
    slurm.submit("8", "RUNNING", stage="shard", world_size=4)
    (folder / "7_1_log.err").write_text("rank 1\n")
    (folder / "8_3_0_log.err").write_text("task 3\n")

    open_logs(rank=1).show_last(5)
    open_logs("shard", rank=3).show_last(5)

    assert shown == ["rank 1", "task 3"]


def test_of_an_array_the_task_that_wrote_last_is_shown_and_of_ranks_the_first(
    slurm: FakeSlurm, folder: Path, open_logs: Open, shown: list[str]
) -> None:
    slurm.submit("7", "RUNNING", world_size=2)
    slurm.submit("8", "FAILED", stage="shard", world_size=4)
    written_s = {"7_0": 10, "7_1": 20, "8_0_0": 10, "8_2_0": 30, "8_3_0": 20}
    for name, time_s in written_s.items():
        path = folder / f"{name}_log.err"
        path.write_text(f"of {name}\n")
        os.utime(path, (time_s, time_s))

    open_logs().show_last(5)
    open_logs("shard").show_last(5)

    assert shown == ["of 7_0", "of 8_2_0"]


def test_what_cannot_be_shown_is_said_with_what_there_is(
    slurm: FakeSlurm, folder: Path, open_logs: Open
) -> None:
    with pytest.raises(MissingInputError, match=r"none has of any stage.*run --stage train"):
        open_logs().show_last(5)
    slurm.submit("7", "RUNNING")
    with pytest.raises(MissingInputError, match="there are logs of stage train"):
        open_logs("evaluate").show_last(5)
    with pytest.raises(MissingInputError, match="no rank 2: it has ranks 0 to 1"):
        open_logs(rank=2).show_last(5)
    folder.rmdir()
    with pytest.raises(MissingInputError, match="which this machine does not see"):
        open_logs().show_last(5)


def test_a_log_is_followed_over_a_requeue_and_into_the_next_job_until_all_have_ended(
    slurm: FakeSlurm, folder: Path, open_logs: Open, shown: list[str], remarks: list[str]
) -> None:
    slurm.submit("7", "PENDING")
    slurm.submit("8", "PENDING")
    events: dict[int, Callable[[], object]] = {
        5: lambda: (folder / "7_0_log.err").write_text("first life\n"),
        15: lambda: slurm.turn("7", "RUNNING"),
        25: lambda: (folder / "7_0_log.err").write_text("first life\nsecond life\n"),
        35: lambda: slurm.turn("7", "COMPLETED"),
        45: lambda: (folder / "8_0_log.err").write_text("next job\n"),
        55: lambda: slurm.turn("8", "COMPLETED"),
    }
    seconds = 0

    def sleep(_: float) -> None:
        nonlocal seconds
        seconds += 1
        assert seconds < 100, "followed for ever"
        events.get(seconds, lambda: None)()

    open_logs().follow(10, sleep)

    assert shown == ["first life", "second life", "next job"]
    assert remarks == [
        f"job 8: {folder}/8_0_log.err is not there yet: the job has not begun",
        f"job 7: {folder}/7_0_log.err",
        f"job 8: {folder}/8_0_log.err",
    ]
    assert seconds == 60


def test_a_silent_slurm_does_not_end_the_following(
    slurm: FakeSlurm, folder: Path, open_logs: Open, shown: list[str]
) -> None:
    slurm.submit("7", "COMPLETED")
    slurm.is_silent = True
    (folder / "7_0_log.err").write_text("one\n")
    seconds = 0

    def sleep(_: float) -> None:
        nonlocal seconds
        seconds += 1
        slurm.is_silent = seconds < 30

    open_logs().follow(10, sleep)

    assert seconds == 30
    assert shown == ["one"]


@pytest.mark.parametrize("end", ["manifest", "verdict"])
def test_without_slurm_a_log_is_followed_until_the_run_has_ended_and_it_is_still(
    services: Services,
    slurm: FakeSlurm,
    folder: Path,
    open_logs: Open,
    remarks: list[str],
    end: str,
) -> None:
    slurm.submit("7", "RUNNING")
    slurm.is_here = False
    log = folder / "7_0_log.err"
    log.write_text("one\n")
    os.utime(log, (0, 0))
    train = f"runs/{services.run_name}/train"
    verdict = {"reason": "", "attempts": 3, "step": 0, "time_ms": 0}
    events: dict[int, Callable[[], object]] = {
        15: lambda: write_json(services.storage, f"{train}/{end}.json", verdict),
        16: lambda: os.utime(log),
        25: lambda: os.utime(log, (0, 0)),
    }
    seconds = 0

    def sleep(_: float) -> None:
        nonlocal seconds
        seconds += 1
        assert seconds < 100, "followed for ever"
        events.get(seconds, lambda: None)()

    open_logs().follow(10, sleep)

    assert seconds == 30
    assert remarks[1:] == ["SLURM's commands are not here: whether a job goes on is not known"]
    remarks.clear()
    open_logs().show_last(10)
    assert len(remarks) == 2


def test_a_local_job_is_followed_while_its_process_lives(
    slurm: FakeSlurm, folder: Path, open_logs: Open, shown: list[str]
) -> None:
    slurm.submit("999999999", None, cluster="local")
    (folder / "999999999_0_log.err").write_text("one\n")

    open_logs().follow(10, lambda _: pytest.fail("nobody writes any more"))

    assert shown == ["one"]
