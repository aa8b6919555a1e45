"""S3 through faults: bad credentials and buckets, lost answers, servers that overwrite.

Faults come from a small server in this file; what a good server does is in ``test_storage``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.storage import Storage, open_storage


@dataclass
class FaultyS3:
    """The few requests of S3 that the tests need, with one fault each."""

    overwrites: bool = False
    """Ignores ``If-None-Match``."""
    lost_answers: int = 0
    """So many puts are done, but answered with a broken connection."""
    broken_bodies: int = 0
    """So many gets end in the middle of their answer."""
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    """Path to content and ``writer``."""

    def put(self, request: BaseHTTPRequestHandler) -> None:
        """Keeps the object."""
        body = request.rfile.read(int(request.headers["Content-Length"]))
        if request.path in self.objects and not self.overwrites:
            _answer(request, 412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        self.objects[request.path] = (body, request.headers["x-amz-meta-writer"])
        if self.lost_answers and "probe" not in request.path:
            self.lost_answers -= 1
            request.close_connection = True
            return
        _answer(request, 200, b"")

    def get(self, request: BaseHTTPRequestHandler) -> None:
        """Answers with the object, to a HEAD without its bytes."""
        body, writer = self.objects[request.path]
        sent = body[: len(body) // 2] if self.broken_bodies else body
        request.close_connection = bool(self.broken_bodies)
        self.broken_bodies = max(0, self.broken_bodies - 1)
        _answer(request, 206, sent, len(body), writer)


def _answer(
    request: BaseHTTPRequestHandler, status: int, body: bytes, length: int = -1, writer: str = ""
) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body) if length < 0 else length))
    request.send_header("x-amz-meta-writer", writer)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


@pytest.fixture
def server(forget_s3_clients: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    fault = FaultyS3()

    class Request(BaseHTTPRequestHandler):
        """Hands requests to ``fault``."""

        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            fault.put(self)

        def do_GET(self) -> None:
            fault.get(self)

        def do_HEAD(self) -> None:
            fault.get(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Request) as http_server:
        thread = Thread(target=http_server.serve_forever, args=(0.05,))
        thread.start()
        _use_endpoint(monkeypatch, f"http://127.0.0.1:{http_server.server_port}")
        yield fault
        http_server.shutdown()
        thread.join()


def _use_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def test_a_server_that_overwrites_is_refused_before_a_marker_is_put(server: FaultyS3) -> None:
    server.overwrites = True

    with pytest.raises(StageError, match="use one that honours it"):
        open_storage("s3://bucket/prefix").write_if_absent("marker", b"")
    assert "/bucket/prefix/marker" not in server.objects


def test_a_server_is_asked_once_whether_it_overwrites(server: FaultyS3) -> None:
    storage = open_storage("s3://bucket/prefix")
    storage.write_if_absent("first", b"")
    server.objects.pop("/bucket/prefix/.create-only-probe")

    storage.write_if_absent("second", b"")

    assert set(server.objects) == {"/bucket/prefix/first", "/bucket/prefix/second"}


def test_a_put_whose_answer_got_lost_is_still_ours(server: FaultyS3) -> None:
    server.lost_answers = 1

    assert open_storage("s3://bucket").write_if_absent("marker", b"data")


def test_an_answer_that_breaks_off_is_read_again(server: FaultyS3) -> None:
    server.objects["/bucket/object"] = (b"whole content", "")
    server.broken_bodies = 2

    assert open_storage("s3://bucket").read("object") == b"whole content"


def test_answers_that_always_break_off_are_an_error_and_never_short_data(server: FaultyS3) -> None:
    server.objects["/bucket/object"] = (b"whole content", "")
    server.broken_bodies = 99

    with pytest.raises(StageError, match="s3://bucket/object"):
        open_storage("s3://bucket").read("object")


@pytest.mark.parametrize("root_uri", ["s3://", "s3:///prefix", "s3://bucket/a/../b", "s3://b/p?q"])
def test_a_malformed_address_is_a_configuration_error(root_uri: str) -> None:
    with pytest.raises(ConfigError, match="root_uri"):
        open_storage(root_uri)


def test_a_trailing_slash_does_not_change_where_objects_lie() -> None:
    assert open_storage("s3://bucket/prefix/").uri("key") == "s3://bucket/prefix/key"
    assert open_storage("s3://bucket/").uri("key") == "s3://bucket/key"


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


@pytest.mark.slow
def test_a_server_that_is_down_is_named(
    forget_s3_clients: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use_endpoint(monkeypatch, "http://127.0.0.1:9")

    with pytest.raises(StageError, match=r"endpoint: http://127\.0\.0\.1:9"):
        open_storage("s3://bucket").write("object", b"")


@pytest.mark.slow
def test_a_missing_bucket_is_a_configuration_error(s3_environment: None) -> None:
    storage = open_storage("s3://sigma-no-such-bucket/prefix")

    for request in (lambda: storage.list("a"), lambda: storage.write_if_absent("a", b"")):
        with pytest.raises(ConfigError, match="bucket 'sigma-no-such-bucket' does not exist"):
            request()


@pytest.mark.slow
def test_a_wrong_secret_is_a_configuration_error(
    s3_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")

    with pytest.raises(ConfigError, match="SignatureDoesNotMatch"):
        open_storage("s3://bucket/prefix").write("object", b"")


@pytest.mark.slow
def test_a_listing_goes_on_after_the_first_thousand_keys(s3_storage: Storage) -> None:
    keys = [f"parts/{number:06d}.json" for number in range(1001)]
    for key in keys:
        s3_storage.write(key, b"")

    assert s3_storage.list("parts") == keys
