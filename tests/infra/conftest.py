"""Stores for the tests of infra: a folder, and a real S3 server where the environment names one."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from sigma_pipeline.infra import s3
from sigma_pipeline.infra.storage import LocalStorage, Storage, open_storage


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
