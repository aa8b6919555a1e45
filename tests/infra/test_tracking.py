"""The tracker against a real MLflow: everything arrives once, whatever was stopped or was down."""

import io
import logging
import math
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sigma_pipeline.infra import tracking
from sigma_pipeline.infra.dashboard import dashboard_server, wait_until_ready
from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.mlflow_run import connect, explained, public_address
from sigma_pipeline.infra.storage import LocalStorage
from sigma_pipeline.infra.tracking import Tracker, default_tracking_uri, recorded_run

# MLflow 3.17 uses an option that SQLAlchemy 2.1 is going to remove.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

_NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStorage:
    """One store and so one database for all tests: a new database takes seconds."""
    return LocalStorage(str(tmp_path_factory.mktemp("my store")))


class Pipeline:
    """One run with a name of its own, as its jobs and its tracker see it."""

    def __init__(self, storage: LocalStorage, tracking_uri: str | None = None) -> None:
        self.storage = storage
        self.name = f"run-{secrets.token_hex(4)}"
        self.uri = tracking_uri or default_tracking_uri(storage) or ""

    def tracker(self) -> Tracker:
        """A new tracker, as a restarted process would make one."""
        return Tracker(self.storage, self.name, "sigma", self.uri)

    def journal(self, attempt: str) -> Journal:
        """The pen of an attempt."""
        return Journal(self.storage, self.name, attempt, "train")

    def put_picture(self, key: str) -> str:
        """A small PNG in the store."""
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "PNG")
        self.storage.write(key, file.getvalue())
        return key

    @property
    def client(self) -> Any:
        """MLflow's own client."""
        with explained(self.uri):
            return connect(self.uri)

    @property
    def run_id(self) -> str:
        """Where the tracker has put the run."""
        record = recorded_run(self.storage, self.name, "sigma", self.uri)
        assert record
        return record.run_id

    def run(self) -> Any:
        """The run as MLflow has it."""
        return self.client.get_run(self.run_id)

    def history(self, name: str) -> list[tuple[int, float]]:
        """Steps and values of a curve, in the order of the steps."""
        points = self.client.get_metric_history(self.run_id, name)
        return sorted((point.step, point.value) for point in points)

    def files(self, folder: str | None = None) -> list[str]:
        """Paths of the run's files in a folder."""
        return [file.path for file in self.client.list_artifacts(self.run_id, folder)]


@pytest.fixture
def pipeline(store: LocalStorage) -> Pipeline:
    return Pipeline(store)


def _write_steps(pipeline: Pipeline, attempt: str, steps: range, value: float) -> None:
    pen = pipeline.journal(attempt)
    for step in steps:
        pen.metrics(step, {"train/loss": value})
    pen.close()


def test_numbers_arrive_with_their_steps_and_syncing_again_adds_none(pipeline: Pipeline) -> None:
    _write_steps(pipeline, "a1", range(3), 0.5)
    tracker = pipeline.tracker()

    counts = [tracker.sync(), tracker.sync(), pipeline.tracker().sync()]

    assert counts == [3, 0, 0]
    assert pipeline.history("train/loss") == [(0, 0.5), (1, 0.5), (2, 0.5)]


def test_a_restarted_tracker_continues_the_same_run(pipeline: Pipeline) -> None:
    _write_steps(pipeline, "a1", range(3), 1.0)
    pipeline.tracker().sync()
    first = pipeline.run_id
    _write_steps(pipeline, "a2", range(3, 5), 2.0)

    assert pipeline.tracker().sync() == 2
    assert pipeline.run_id == first
    found = pipeline.client.search_runs(
        [pipeline.run().info.experiment_id], f"attributes.run_name = '{pipeline.name}'"
    )
    assert len(found) == 1


def test_steps_that_a_second_attempt_repeats_are_not_drawn_twice(pipeline: Pipeline) -> None:
    _write_steps(pipeline, "a1", range(4), 1.0)
    tracker = pipeline.tracker()
    tracker.sync()
    _write_steps(pipeline, "a2", range(2, 6), 2.0)

    assert tracker.sync() == 2
    assert pipeline.history("train/loss") == [
        (0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0),
    ]  # fmt: skip


def test_a_score_of_an_older_step_still_arrives(pipeline: Pipeline) -> None:
    tracker = pipeline.tracker()
    for attempt, step in (("a1", 2000), ("a2", 1000)):
        pen = pipeline.journal(attempt)
        pen.metrics(step, {"evaluate/knn/demo/top1": 0.5})
        pen.close()
        tracker.sync()

    assert [step for step, _ in pipeline.history("evaluate/knn/demo/top1")] == [1000, 2000]


def test_more_numbers_than_one_call_takes_all_arrive(pipeline: Pipeline) -> None:
    _write_steps(pipeline, "a1", range(2100), 1.0)

    assert pipeline.tracker().sync() == 2100
    assert [step for step, _ in pipeline.history("train/loss")] == list(range(2100))


def test_a_number_that_is_not_finite_or_badly_named_holds_nothing_up(pipeline: Pipeline) -> None:
    pen = pipeline.journal("a1")
    pen.metrics(1, {"train/loss": math.nan, "train/norm": math.inf, "evaluate/a@b": 1.0})
    pen.close()

    assert pipeline.tracker().sync() == 3
    assert math.isnan(pipeline.history("train/loss")[0][1])
    assert pipeline.history("train/norm")[0][1] > 1e300
    assert pipeline.history("evaluate/a_b") == [(1, 1.0)]


def test_parameters_keep_their_first_value_and_tags_their_last(pipeline: Pipeline) -> None:
    for attempt, value in (("a1", "first"), ("a2", "second")):
        pen = pipeline.journal(attempt)
        pen.parameters({"seed": value, f"only.{attempt}": "x" * 7000})
        pen.tags({"host": value})
        pen.close()
        pipeline.tracker().sync()

    data = pipeline.run().data
    assert data.params["seed"] == "first"
    assert len(data.params["only.a2"]) == 6000
    assert data.tags["host"] == "second"


def test_the_recipe_arrives_as_a_file_and_its_newest_version_stays(pipeline: Pipeline) -> None:
    key = f"runs/{pipeline.name}/config.yaml"
    for attempt in ("a1", "a2"):
        pipeline.storage.write(key, attempt.encode())
        pen = pipeline.journal(attempt)
        pen.artifact("recipe/config.yaml", key)
        pen.close()
        pipeline.tracker().sync()

    path = pipeline.client.download_artifacts(pipeline.run_id, "recipe/config.yaml")
    assert pipeline.files("recipe") == ["recipe/config.yaml"]
    assert Path(path).read_bytes() == b"a2"


def test_a_picture_appears_once_per_step(pipeline: Pipeline) -> None:
    for attempt, steps in (("a1", (100, 200)), ("a2", (200, 300))):
        pen = pipeline.journal(attempt)
        for step in steps:
            key = pipeline.put_picture(f"runs/{pipeline.name}/{step}.png")
            pen.picture("train/masks", step, key)
        pen.close()
        pipeline.tracker().sync()

    pictures = [path for path in pipeline.files("images") if path.endswith(".png")]
    assert sorted(path.split("+")[2] for path in pictures) == ["100", "200", "300"]


def test_files_that_are_gone_or_damaged_are_left_out_with_a_warning(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.storage.write("damaged.png", b"no picture")
    pen = pipeline.journal("a1")
    pen.picture("train/masks", 1, "damaged.png")
    pen.picture("train/masks", 2, "absent.png")
    pen.artifact("recipe/config.yaml", "absent.yaml")
    pen.metrics(1, {"train/loss": 1.0})
    pen.close()

    assert pipeline.tracker().sync() == 1
    assert caplog.text.count("is left out") == 3


def test_a_dataset_is_an_input_of_the_run_once(pipeline: Pipeline) -> None:
    for attempt in ("a1", "a2"):
        pen = pipeline.journal(attempt)
        pen.dataset("demo", "train", "v1", "0" * 64, "/store/datasets/demo/train/v1")
        pen.close()
        pipeline.tracker().sync()

    inputs = pipeline.run().inputs.dataset_inputs
    assert [(entry.dataset.name, entry.dataset.digest) for entry in inputs] == [
        ("demo/train", "0" * 36)
    ]
    assert '"/store/datasets/demo/train/v1"' in inputs[0].dataset.source


def test_the_background_copies_by_itself_and_the_status_follows_the_run(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_POLL_INTERVAL_S", 0.05)
    states = []
    for attempt, status in (("a1", "KILLED"), ("a2", "FINISHED")):
        tracker = pipeline.tracker()
        tracker.start()
        _write_steps(pipeline, attempt, range(2), 1.0)
        _wait_for(lambda: pipeline.run().info.status == "RUNNING")
        _wait_for(lambda: len(pipeline.history("train/loss")) == 2)
        tracker.finish(status)  # type: ignore[arg-type]
        states.append(pipeline.run().info.status)

    assert states == ["KILLED", "FINISHED"]


def test_a_run_deleted_in_mlflow_is_made_anew_from_the_journal(pipeline: Pipeline) -> None:
    _write_steps(pipeline, "a1", range(3), 1.0)
    tracker = pipeline.tracker()
    tracker.sync()
    pipeline.client.delete_run(pipeline.run_id)

    assert pipeline.tracker().sync() == 3
    assert len(pipeline.history("train/loss")) == 3


def test_a_crash_between_making_the_run_and_keeping_its_id_makes_no_second_run(
    pipeline: Pipeline,
) -> None:
    pipeline.tracker().sync()
    first = pipeline.run_id
    for key in pipeline.storage.list(f"runs/{pipeline.name}/tracking"):
        pipeline.storage.delete(key)

    pipeline.tracker().sync()

    assert pipeline.run_id == first


def test_a_second_tracker_of_the_machine_waits_for_the_first(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_LOCK_PATIENCE_S", 0.1)

    with (
        tracking._locked(tracking._lock_path(pipeline.uri), 0),
        pytest.raises(StageError, match="another process"),
    ):
        pipeline.tracker().sync()


def test_a_dead_server_is_warned_of_once_and_stops_nobody(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "_POLL_INTERVAL_S", 0.01)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    pipeline = Pipeline(store, _NOBODY)
    tracker = pipeline.tracker()

    with caplog.at_level(logging.WARNING, logger="sigma_pipeline"):
        tracker.start()
        _write_steps(pipeline, "a1", range(3), 1.0)
        _wait_for(lambda: "is sent later" in caplog.text)
        time.sleep(0.2)
        tracker.finish("FINISHED")

    assert caplog.text.count("is sent later") == 1
    with pytest.raises(StageError, match=r"MLflow at http://127\.0\.0\.1:9"):
        pipeline.tracker().sync()


def test_a_store_on_s3_needs_an_address_for_mlflow() -> None:
    from sigma_pipeline.infra.s3 import open_s3

    with pytest.raises(ConfigError, match=r"track\.tracking_uri is not set"):
        Tracker(open_s3("s3://bucket/prefix"), "demo", "sigma", None)


def test_passwords_stay_out_of_records_and_messages() -> None:
    assert public_address("https://me:secret@host:80/a") == "https://host:80/a"
    assert public_address("sqlite:////data/a@b/mlflow.db") == "sqlite:////data/a@b/mlflow.db"


@pytest.fixture
def address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def start_server(tmp_path: Path, address: str) -> Iterator[Any]:
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
    store: LocalStorage, address: str, start_server: Any
) -> None:
    pipeline = Pipeline(store, address)
    pen = pipeline.journal("a1")
    pen.metrics(1, {"train/loss": math.nan, "train/norm": math.inf})
    pen.picture("train/masks", 1, pipeline.put_picture("one.png"))
    pen.artifact("recipe/one.png", "one.png")
    pen.close()
    tracker = pipeline.tracker()
    tracker.start()
    tracker.finish("FAILED")

    start_server()
    counts = [pipeline.tracker().sync(), pipeline.tracker().sync()]

    assert counts == [2, 0]
    assert pipeline.run().info.status == "FAILED"
    assert math.isnan(pipeline.history("train/loss")[0][1])
    assert pipeline.files("recipe") == ["recipe/one.png"]
    assert len(pipeline.files("images")) == 2


def _wait_for(condition: Any) -> None:
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
