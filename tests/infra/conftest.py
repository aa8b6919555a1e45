"""Stores for the tests of infra (a folder; a real S3 server where the environment names one), and
runs that are tracked by a real MLflow.
"""

import io
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from PIL import Image

from sigma_pipeline.infra import s3
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.mlflow_run import connect, explained
from sigma_pipeline.infra.storage import LocalStorage, Storage, open_storage
from sigma_pipeline.infra.tracking import Tracker, default_tracking_uri, recorded_run


@pytest.fixture
def local_storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(str(tmp_path / "store"))


@pytest.fixture
def forget_s3_clients() -> Iterator[None]:
    """Clients take endpoint and credentials from the environment when they are made."""
    s3._client_of.cache_clear()
    s3._checked_roots.cache_clear()
    yield
    s3._client_of.cache_clear()
    s3._checked_roots.cache_clear()


@pytest.fixture
def s3_environment(forget_s3_clients: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if "SIGMA_TEST_S3_ENDPOINT" not in os.environ:
        pytest.skip("SIGMA_TEST_S3_ENDPOINT is not set; start a server with infra/s3/up.sh")
    monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["SIGMA_TEST_S3_ENDPOINT"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", os.environ["SIGMA_TEST_S3_ACCESS_KEY"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", os.environ["SIGMA_TEST_S3_SECRET_KEY"])


@pytest.fixture
def s3_storage(s3_environment: None) -> Iterator[Storage]:
    bucket = f"sigma-{secrets.token_hex(4)}"
    client = boto3.session.Session().client("s3")
    client.create_bucket(Bucket=bucket)
    yield open_storage(f"s3://{bucket}/some/prefix")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    for item in [item for page in pages for item in page.get("Contents", ())]:
        client.delete_object(Bucket=bucket, Key=item["Key"])
    client.delete_bucket(Bucket=bucket)
    client.close()


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest) -> Storage:
    """Every kind of store in turn: all keep the same promises."""
    found: Storage = request.getfixturevalue(f"{request.param}_storage")
    return found


class TrackedRun:
    """A pipeline run with a name of its own, as its jobs, its tracker and MLflow see it."""

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

    def write_steps(self, attempt: str, steps: range, value: float = 1.0) -> None:
        """What an attempt of a training job leaves in the journal."""
        pen = self.journal(attempt)
        for step in steps:
            pen.metrics(step, {"train/loss": value})
        pen.close()

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

    def in_mlflow(self) -> Any:
        """The run as MLflow has it."""
        return self.client.get_run(self.run_id)

    def history(self, name: str) -> list[tuple[int, float]]:
        """Steps and values of a curve, in the order of the steps."""
        points = self.client.get_metric_history(self.run_id, name)
        return sorted((point.step, point.value) for point in points)

    def files(self, folder: str | None = None) -> list[str]:
        """Paths of the run's files in a folder."""
        return [file.path for file in self.client.list_artifacts(self.run_id, folder)]


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> LocalStorage:
    """One store and so one database for all tests: a new database takes seconds."""
    return LocalStorage(str(tmp_path_factory.mktemp("my store")))


@pytest.fixture
def run(mlflow_store: LocalStorage) -> TrackedRun:
    return TrackedRun(mlflow_store)


@pytest.fixture
def run_at(mlflow_store: LocalStorage) -> Callable[[str], TrackedRun]:
    """Makes a run that is tracked at the given address."""
    return lambda tracking_uri: TrackedRun(mlflow_store, tracking_uri)
