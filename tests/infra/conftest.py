"""Stores for the tests of infra (a folder; a real S3 server where the environment names one), and
runs that are tracked by a real MLflow.
"""

import functools
import io
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sigma_pipeline.infra import s3_client, s3_read, s3_write
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.mlflow_run import connect, explained
from sigma_pipeline.infra.storage import LocalStorage, Storage, open_storage
from sigma_pipeline.infra.tracking import Tracker, default_tracking_uri, recorded_run
from tests.infra.fault_proxy import FaultProxy, fault_proxy


@pytest.fixture
def local_storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(str(tmp_path / "store"))


@pytest.fixture
def forget_s3_clients() -> Iterator[None]:
    """Clients take endpoint and credentials from the environment when they are made."""
    s3_client.forget_clients()
    yield
    s3_client.forget_clients()


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are repeated without long pauses, and not for long."""
    policy = replace(
        s3_client.RETRY, total_s=20, first_delay_s=0.01, longest_delay_s=0.1, read_timeout_s=1
    )
    monkeypatch.setattr(s3_client, "RETRY", policy)


@pytest.fixture(scope="session")
def moto_proxy() -> Iterator[FaultProxy]:
    """A proxy before an S3 server in this process."""
    from moto.s3 import models
    from moto.server import ThreadedMotoServer

    models.S3_UPLOAD_PART_MIN_SIZE = _MOTO_PART_BYTES
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with fault_proxy(f"{host}:{port}", _MOTO_PART_BYTES) as proxy:
        proxy.is_private = True
        yield proxy
    server.stop()


@pytest.fixture(scope="session")
def real_proxy() -> Iterator[FaultProxy]:
    """A proxy before the S3 server that the environment names."""
    if "SIGMA_TEST_S3_ENDPOINT" not in os.environ:
        pytest.skip("SIGMA_TEST_S3_ENDPOINT is not set; start a server with infra/s3/up.sh")
    with fault_proxy(os.environ["SIGMA_TEST_S3_ENDPOINT"].removeprefix("http://")) as proxy:
        yield proxy


_MOTO_PART_BYTES = 10_000
_make_client = s3_client._client_of.__wrapped__


@functools.cache
def _client_at(endpoint: str) -> Any:
    """Made once for all tests: that takes a tenth of a second."""
    return _make_client(0)


def _connect(kind: str, request: pytest.FixtureRequest) -> FaultProxy:
    """Points the environment at a server of this kind, through its proxy, which works well."""
    request.getfixturevalue("quick_retries")
    monkeypatch = request.getfixturevalue("monkeypatch")
    proxy: FaultProxy = request.getfixturevalue(f"{kind}_proxy")
    proxy.forget()
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    for name, setting in (("AWS_ACCESS_KEY_ID", "ACCESS"), ("AWS_SECRET_ACCESS_KEY", "SECRET")):
        monkeypatch.setenv(name, os.environ.get(f"SIGMA_TEST_S3_{setting}_KEY", "any"))
    monkeypatch.setattr(s3_client, "_client_of", lambda process_id: _client_at(proxy.endpoint))
    return proxy


@contextmanager
def _bucket(proxy: FaultProxy) -> Iterator[Storage]:
    bucket, client = f"sigma-{secrets.token_hex(4)}", s3_client.client()
    client.create_bucket(Bucket=bucket)
    yield open_storage(f"s3://{bucket}/some/prefix")
    proxy.forget()
    if proxy.is_private:
        return
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 100}
    )
    for page in pages:
        if keys := [{"Key": item["Key"]} for item in page.get("Contents", ())]:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys})
    client.delete_bucket(Bucket=bucket)


@pytest.fixture(params=["moto", pytest.param("real", marks=pytest.mark.slow)])
def proxy(request: pytest.FixtureRequest) -> FaultProxy:
    """Before each kind of S3 server in turn."""
    return _connect(request.param, request)


@pytest.fixture
def s3_storage(proxy: FaultProxy) -> Iterator[Storage]:
    """A new bucket behind ``proxy``."""
    with _bucket(proxy) as storage:
        yield storage


@pytest.fixture
def use_endpoint(forget_s3_clients: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes new clients of this process ask there, with a secret that is easy to find."""

    def use(endpoint: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never-to-be-told")

    return use


@pytest.fixture
def impatient(quick_retries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives up soon."""
    monkeypatch.setattr(s3_client, "RETRY", replace(s3_client.RETRY, total_s=0.1))


@pytest.fixture
def small_parts(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest parts that the server takes, and smaller pieces."""
    monkeypatch.setattr(s3_write, "_PART_BYTES", proxy.min_part_bytes)
    monkeypatch.setattr(s3_read, "_PIECE_BYTES", proxy.min_part_bytes // 5)


@pytest.fixture
def large_file(proxy: FaultProxy, tmp_path: Path) -> Path:
    """A file of three of the small parts, the last one short; eleven pieces and a byte."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(proxy.min_part_bytes // 5 * 11 + 1))
    return path


@pytest.fixture(params=["local", "moto", pytest.param("real", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    """Every kind of store in turn: all keep the same promises."""
    if request.param == "local":
        yield request.getfixturevalue("local_storage")
        return
    with _bucket(_connect(request.param, request)) as storage:
        yield storage


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
