"""A proxy in front of an S3 server that fails as it is told: on the requests that match, so often.

It hands requests on as they are (the ``Host`` header too, which is signed).
"""

import http.client
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Literal

Kind = Literal["status", "delay", "reset", "lost", "cut", "damage", "flip", "unconditional"]
"""``status``: refused with a status; ``delay``: handed on later; ``reset``: the connection breaks
before the server hears of it; ``lost``: after the server has done it; ``cut``: half of the answer's
body comes; ``damage``: a byte of the request's body is changed; ``flip``: of the answer's body;
``unconditional``: the server does not hear of ``If-None-Match``."""

EVER = 10**6


@dataclass
class Fault:
    """What happens to requests of ``method`` with ``part`` in their path or query."""

    kind: Kind
    method: str
    part: str = ""
    times: int = 1
    after: int = 0
    """Matching requests that pass before."""
    status: int = 503
    code: str = "SlowDown"
    seconds: float = 0.0

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request is hit; counts it."""
        if method != self.method or self.part not in path or not self.times:
            return False
        if self.after:
            self.after -= 1
            return False
        self.times -= 1
        return True


PASSING_FAULTS = (
    (Fault("status", "", times=2),),
    (Fault("status", "", status=500), Fault("status", "", status=429)),
    (Fault("reset", "", times=2),),
    (Fault("lost", "", times=2),),
    (Fault("delay", "", seconds=0.05),),
)
"""What any request must survive; ``FaultProxy.strike`` says which one."""


@dataclass
class FaultProxy:
    """The running proxy: what it is to do, and what it has seen."""

    endpoint: str
    min_part_bytes: int
    """Smallest part of an upload that the server takes."""
    is_private: bool = False
    """Whether what is put on the server is forgotten when the tests end."""
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of all requests, in the order in which they came."""
    lock: Lock = field(default_factory=Lock)

    def fault_of(self, method: str, path: str) -> Fault | None:
        """What is to happen to a request."""
        with self.lock:
            self.requests.append((method, path))
            return next((fault for fault in self.faults if fault.strikes(method, path)), None)

    def strike(self, faults: Iterable[Fault], method: str, part: str = "") -> None:
        """Lets these faults happen to such requests."""
        self.faults.extend(replace(fault, method=method, part=part) for fault in faults)

    def forget(self) -> None:
        """Works well from now on."""
        with self.lock:
            self.faults.clear()
            self.requests.clear()

    def count(self, method: str, part: str = "") -> int:
        """Requests seen."""
        return sum(method == seen and part in path for seen, path in self.requests)


@contextmanager
def fault_proxy(server: str, min_part_bytes: int = 5 << 20) -> Iterator[FaultProxy]:
    """Runs a proxy in front of ``server`` (host:port)."""

    class Request(BaseHTTPRequestHandler):
        """One connection of a client."""

        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            _serve(self, proxy, server)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_any  # noqa: N815 - names of the base

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with _Server(("127.0.0.1", 0), Request) as http_server:
        proxy = FaultProxy(f"http://127.0.0.1:{http_server.server_port}", min_part_bytes)
        thread = Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        yield proxy
        http_server.shutdown()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # connections that clients keep open do not hold up the end
    request_queue_size = 64


def _serve(request: BaseHTTPRequestHandler, proxy: FaultProxy, server: str) -> None:
    body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
    fault = proxy.fault_of(request.command, request.path)
    kind = fault.kind if fault else None
    if fault and kind == "delay":
        time.sleep(fault.seconds)
    if fault and kind == "status":
        _answer(request, fault.status, {}, f"<Error><Code>{fault.code}</Code></Error>".encode())
    elif kind == "reset":
        _reset(request)
    else:
        sent_on = _flip(body) if kind == "damage" else body
        status, headers, content = _hand_on(request, server, sent_on, kind == "unconditional")
        if kind == "lost":
            _reset(request)
        elif kind == "flip":
            _answer(request, status, headers, _flip(content))
        else:
            sent = len(content) // 2 if kind == "cut" else len(content)
            _answer(request, status, headers, content, sent)


def _flip(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


def _hand_on(
    request: BaseHTTPRequestHandler, server: str, body: bytes, is_unconditional: bool
) -> tuple[int, dict[str, str], bytes]:
    left_out = {"expect", "connection", *(("if-none-match",) if is_unconditional else ())}
    connection = http.client.HTTPConnection(server, timeout=30)
    try:
        connection.putrequest(
            request.command, request.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in request.headers.items():
            if name.lower() not in left_out:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def _answer(
    request: BaseHTTPRequestHandler,
    status: int,
    headers: dict[str, str],
    content: bytes,
    sent: int | None = None,
) -> None:
    """Sends an answer, or the first ``sent`` bytes of its body and then no more."""
    request.send_response_only(status)
    for name, value in headers.items():
        if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
            request.send_header(name, value)
    is_head = request.command == "HEAD"
    length = headers.get("Content-Length", "0") if is_head else str(len(content))
    if status not in {204, 304}:
        request.send_header("Content-Length", length)
    request.end_headers()
    if not is_head:
        request.wfile.write(content[:sent])
    if sent is not None and sent < len(content):
        request.close_connection = True


def _reset(request: BaseHTTPRequestHandler) -> None:
    """Breaks the connection: the client gets a reset, not an orderly end."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.close_connection = True
    request.connection.close()
