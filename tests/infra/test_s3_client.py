"""Endpoint and credentials come from the environment, and messages do not repeat them."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sigma_pipeline.infra import s3_client
from sigma_pipeline.infra.errors import ConfigError, StoreUnreachable
from sigma_pipeline.infra.storage import open_storage


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("localhost:9000", "AWS_ENDPOINT_URL is not a URL"),
        ("http://user:never-to-be-told@127.0.0.1:9", "AWS_ENDPOINT_URL holds a user name"),
    ],
)
def test_a_bad_endpoint_is_a_configuration_error_that_does_not_repeat_it(
    use_endpoint: Callable[[str], None], endpoint: str, message: str
) -> None:
    use_endpoint(endpoint)

    with pytest.raises(ConfigError, match=message) as caught:
        open_storage("s3://bucket").read("object")
    assert "never-to-be-told" not in str(caught.value)


def test_missing_credentials_say_which_variables_to_set(
    forget_s3_clients: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(ConfigError, match="set AWS_ACCESS_KEY_ID"):
        open_storage("s3://bucket").read("object")


def test_a_process_that_has_little_time_gives_up_early(
    use_endpoint: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_endpoint("http://127.0.0.1:9")
    monkeypatch.setattr(s3_client, "RETRY", s3_client.RETRY)  # put back afterwards
    storage, began_s = open_storage("s3://bucket", patience_s=1.0), time.monotonic()

    with pytest.raises(StoreUnreachable):
        storage.read("object")

    assert time.monotonic() - began_s < 10


def test_threads_that_begin_together_make_one_client(
    use_endpoint: Callable[[str], None],
) -> None:
    use_endpoint("http://127.0.0.1:9")

    with ThreadPoolExecutor(8) as pool:
        clients = list(pool.map(lambda _: s3_client.client(), range(8)))

    assert len({id(client) for client in clients}) == 1


def test_another_process_has_a_client_of_its_own(use_endpoint: Callable[[str], None]) -> None:
    use_endpoint("http://127.0.0.1:9")

    assert s3_client._client_of(1) is not s3_client._client_of(2)
