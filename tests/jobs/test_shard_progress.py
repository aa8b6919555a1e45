"""The progress line."""

import logging

import pytest

from sigma_pipeline.jobs.shard_progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set."""
    now = [100.0]
    monkeypatch.setattr("sigma_pipeline.jobs.shard_progress.time.monotonic", lambda: now[0])
    return now


def test_a_line_says_how_far_it_is_and_how_long_it_takes(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    progress = Progress("set", num_videos=4, num_bytes=40_000_000)
    progress.add(10_000_000)
    clock[0] += 20

    progress.log_if_due()

    (line,) = caplog.messages
    assert line == "set: 1 of 4 videos, 10.0 of 40.0 MB, 0.5 MB/s, about 60 s left"


def test_lines_come_by_time_and_not_by_video(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    progress = Progress("set", num_videos=100, num_bytes=100)

    for _ in range(100):
        clock[0] += 0.25
        progress.add(1)
        progress.log_if_due()

    assert len(caplog.messages) == 2


def test_without_a_video_done_there_is_no_estimate(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    progress = Progress("set", num_videos=4, num_bytes=40)
    clock[0] += 20

    progress.log_if_due()

    assert caplog.messages[0].endswith("no estimate yet")
