"""Failures that do not pass: one sentence, in bounded time, without secrets."""

import logging
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from sigma_pipeline.infra import s3_client, s3_retry
from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.storage import Storage, open_storage
from tests.infra.fault_proxy import EVER, Fault, FaultProxy


def messages(error: BaseException | None) -> list[str]:
    """What an error and those that caused it say."""
    return [] if error is None else [f"{error} {error!r}", *messages(error.__cause__)]


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("GET", Fault("status", "GET", times=EVER)),
        ("GET", Fault("cut", "GET", times=EVER)),
        ("GET", Fault("reset", "GET", times=EVER)),
        ("PUT", Fault("lost", "PUT", times=EVER)),
        ("PUT", Fault("status", "PUT", times=EVER, status=429)),
    ],
)
def test_faults_without_end_are_one_error_in_bounded_time(
    proxy: FaultProxy, s3_storage: Storage, impatient: None, method: str, fault: Fault
) -> None:
    s3_storage.write("object", b"content")
    proxy.faults.append(fault)
    begin = time.monotonic()

    expected = rf"/object: no good answer from {proxy.endpoint} .*the same command continues"
    with pytest.raises(StageError, match=expected):
        s3_storage.read("object") if method == "GET" else s3_storage.write("object", b"new")
    assert time.monotonic() - begin < 5


def test_a_store_that_is_tried_for_long_is_told(
    proxy: FaultProxy,
    s3_storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(s3_retry, "_WARN_AFTER_S", 0.01)
    proxy.faults.append(Fault("status", "PUT", "object", times=5))

    s3_storage.write("object", b"")

    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == [
        f"{s3_storage.uri('object')}: 503 SlowDown; still trying"
    ]


@pytest.mark.parametrize("fault", ["reset", "status"])
def test_a_secret_is_never_told(
    moto_proxy: FaultProxy,
    use_endpoint: Callable[[str], None],
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Any,
) -> None:
    use_endpoint(moto_proxy.endpoint)
    monkeypatch.setattr(s3_retry, "_WARN_AFTER_S", 0.01)
    moto_proxy.faults += [Fault(fault, method, times=EVER) for method in ("GET", "PUT", "HEAD")]
    storage = open_storage("s3://bucket-of-secrets/prefix")
    attempts = (
        lambda: storage.read("object"),
        lambda: storage.write("object", b""),
        lambda: storage.write_if_absent("object", b""),
        lambda: storage.exists("object"),
        lambda: storage.list(""),
    )
    told = [repr(storage), repr(s3_client.client()), repr(s3_client.RETRY)]
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "botocore"):
        for attempt in attempts:
            with pytest.raises((StageError, ConfigError)) as caught:
                attempt()
            told += messages(caught.value)
    moto_proxy.forget()

    assert len(told) >= 3 + 2 * len(attempts)
    assert "botocore" in {record.name.partition(".")[0] for record in caplog.records}
    assert not [text for text in (*told, caplog.text) if "never-to-be-told" in text]


def test_a_server_that_is_down_is_named(
    use_endpoint: Callable[[str], None], impatient: None
) -> None:
    use_endpoint("http://127.0.0.1:9")

    with pytest.raises(StageError, match=r"no good answer from http://127\.0\.0\.1:9 in"):
        open_storage("s3://bucket").write("object", b"")


def test_a_missing_bucket_is_a_configuration_error(proxy: FaultProxy) -> None:
    storage = open_storage("s3://sigma-no-such-bucket/prefix")

    for request in (lambda: storage.list("a"), lambda: storage.write_if_absent("a", b"")):
        with pytest.raises(ConfigError, match="bucket 'sigma-no-such-bucket' does not exist"):
            request()


@pytest.mark.slow
def test_a_wrong_secret_is_a_configuration_error(
    real_proxy: FaultProxy,
    use_endpoint: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_endpoint(real_proxy.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", os.environ["SIGMA_TEST_S3_ACCESS_KEY"])

    with pytest.raises(ConfigError, match="SignatureDoesNotMatch") as caught:
        open_storage("s3://bucket/prefix").write("object", b"")
    assert "never-to-be-told" not in "".join(messages(caught.value))
