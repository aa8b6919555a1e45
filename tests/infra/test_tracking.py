"""The tracker against a real MLflow: nothing is lost, whatever was stopped or was down."""

import logging
import math
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sigma_pipeline.infra import tracking
from sigma_pipeline.infra.dashboard import dashboard_server, wait_until_ready
from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.s3 import open_s3
from sigma_pipeline.infra.storage import LocalStorage
from sigma_pipeline.infra.tracking import StatusNote, Tracker, note_status, noted_status

if TYPE_CHECKING:
    from tests.infra.conftest import TrackedRun

# MLflow 3.17 uses an option that SQLAlchemy is going to remove.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

_NOBODY = "http://127.0.0.1:9"


def test_a_restarted_tracker_continues_the_same_run(run: "TrackedRun") -> None:
    run.write_steps("a1", range(3), 1.0)
    run.tracker().sync()
    first = run.run_id
    run.write_steps("a2", range(3, 5), 2.0)

    assert run.tracker().sync() == 2
    assert run.run_id == first
    found = run.client.search_runs(
        [run.in_mlflow().info.experiment_id], f"attributes.run_name = '{run.name}'"
    )
    assert len(found) == 1


def test_the_background_copies_by_itself_and_the_status_follows_the_run(
    run: "TrackedRun", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_POLL_INTERVAL_S", 0.05)
    states = []
    for attempt, status in (("a1", "KILLED"), ("a2", "FINISHED")):
        tracker = run.tracker()
        tracker.start()
        run.write_steps(attempt, range(2), 1.0)
        note_status(run.storage, run.name, "RUNNING")  # by whoever begins to work
        _wait_for(lambda: run.in_mlflow().info.status == "RUNNING")
        _wait_for(lambda: len(run.history("train/loss")) == 2)
        tracker.finish(status)  # type: ignore[arg-type]
        states.append(run.in_mlflow().info.status)

    assert states == ["KILLED", "FINISHED"]


def test_a_process_that_leaves_a_run_to_others_does_not_revive_one_that_was_cancelled(
    run: "TrackedRun",
) -> None:
    note_status(run.storage, run.name, "KILLED")
    tracker = run.tracker()
    tracker.start()
    run.write_steps("a1", range(1), 1.0)

    tracker.finish("RUNNING")

    assert run.in_mlflow().info.status == "KILLED"


def test_a_later_note_stays_and_an_equally_old_one_gives_way(local_storage: LocalStorage) -> None:
    note_status(local_storage, "r1", "KILLED", time_ms=2000)
    note_status(local_storage, "r1", "RUNNING", time_ms=1999)
    first = noted_status(local_storage, "r1")
    note_status(local_storage, "r1", "FAILED", time_ms=2000)

    assert first == StatusNote("KILLED", 2000)
    assert noted_status(local_storage, "r1") == StatusNote("FAILED", 2000)
    assert noted_status(local_storage, "r2") is None


def test_what_a_job_noted_without_mlflow_is_said_there_by_the_next_sync(run: "TrackedRun") -> None:
    run.tracker().sync()
    note_status(run.storage, run.name, "KILLED")

    run.tracker().sync()

    assert run.in_mlflow().info.status == "KILLED"


def test_a_run_deleted_in_mlflow_is_made_anew_from_the_journal(run: "TrackedRun") -> None:
    run.write_steps("a1", range(3), 1.0)
    tracker = run.tracker()
    tracker.sync()
    run.client.delete_run(run.run_id)

    assert run.tracker().sync() == 3
    assert len(run.history("train/loss")) == 3


def test_a_crash_between_making_the_run_and_keeping_its_id_makes_no_second_run(
    run: "TrackedRun",
) -> None:
    run.tracker().sync()
    first = run.run_id
    for key in run.storage.list(f"runs/{run.name}/tracking"):
        run.storage.delete(key)

    run.tracker().sync()

    assert run.run_id == first


def test_a_second_tracker_of_the_machine_waits_for_the_first(
    run: "TrackedRun", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_LOCK_PATIENCE_S", 0.1)

    with (
        tracking._locked(tracking._lock_path(run.uri), 0),
        pytest.raises(StageError, match="another process"),
    ):
        run.tracker().sync()


def test_a_dead_server_is_warned_of_once_and_stops_nobody(
    run_at: "Callable[[str], TrackedRun]",
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tracking, "_POLL_INTERVAL_S", 0.01)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = run_at(_NOBODY)
    tracker = run.tracker()

    with caplog.at_level(logging.WARNING, logger="sigma_pipeline"):
        tracker.start()
        run.write_steps("a1", range(3), 1.0)
        _wait_for(lambda: "is sent later" in caplog.text)
        time.sleep(0.2)
        tracker.finish("FINISHED")

    assert caplog.text.count("is sent later") == 1
    with pytest.raises(StageError, match=r"MLflow at http://127\.0\.0\.1:9"):
        run.tracker().sync()


def test_a_store_on_s3_needs_an_address_for_mlflow() -> None:
    with pytest.raises(ConfigError, match=r"track\.tracking_uri is not set"):
        Tracker(open_s3("s3://bucket/prefix"), "demo", "sigma", None)


@pytest.fixture
def address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def start_server(tmp_path: Path, address: str) -> Iterator[Callable[[], None]]:
    """Starts MLflow's server at ``address``; it is stopped at the end."""
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        uri = f"sqlite:///{tmp_path}/server/mlflow.db"
        (tmp_path / "server").mkdir()
        server = dashboard_server(uri, int(address.rpartition(":")[2]))
        processes.append(subprocess.Popen(server.arguments, env=server.environment))
        wait_until_ready(server, processes[0])

    yield start
    for process in processes:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_everything_missed_by_a_dead_server_arrives_with_the_next_sync(
    run_at: "Callable[[str], TrackedRun]", address: str, start_server: Callable[[], None]
) -> None:
    run = run_at(address)
    pen = run.journal("a1")
    pen.metrics(1, {"train/loss": math.nan, "train/norm": math.inf})
    pen.picture("train/masks", 1, run.put_picture("one.png"))
    pen.artifact("recipe/one.png", "one.png")
    pen.close()
    tracker = run.tracker()
    tracker.start()
    tracker.finish("FAILED")

    start_server()
    counts = [run.tracker().sync(), run.tracker().sync()]

    assert counts == [2, 0]
    assert run.in_mlflow().info.status == "FAILED"
    assert math.isnan(run.history("train/loss")[0][1])
    assert run.files("recipe") == ["recipe/one.png"]
    assert len(run.files("images")) == 2


def _wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds; what is asked for may not be there yet."""
    deadline = time.monotonic() + 30
    while True:
        try:
            if condition():
                return
        except AssertionError:
            pass
        assert time.monotonic() < deadline, "waited for 30 s"
        time.sleep(0.05)
