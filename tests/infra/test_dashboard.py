"""The command of MLflow's server, and waiting for it; a real one runs in ``test_tracking``."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from sigma_pipeline.infra.dashboard import (
    DashboardServer,
    dashboard_server,
    run_link,
    runs_link,
    wait_until_ready,
)
from sigma_pipeline.infra.errors import ConfigError, StageError

_URI = "sqlite:////data/my store/mlflow/mlflow.db"


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_the_server_listens_on_this_machine_only_and_shows_the_database() -> None:
    server = dashboard_server(_URI)

    arguments = dict(zip(server.arguments[5::2], server.arguments[6::2], strict=True))
    assert arguments["--host"] == "127.0.0.1"
    assert arguments["--backend-store-uri"] == _URI
    assert arguments["--artifacts-destination"] == "/data/my store/mlflow/artifacts"
    assert server.address == f"http://127.0.0.1:{arguments['--port']}"


def test_a_port_in_use_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ConfigError, match=f"port {port} cannot be used"):
            dashboard_server(_URI, port)


def test_a_remote_server_needs_no_dashboard_of_ours() -> None:
    with pytest.raises(ConfigError, match="open it in a browser"):
        dashboard_server("https://mlflow.example.org")


def test_waiting_ends_when_the_server_answers(sleeper: "subprocess.Popen[bytes]") -> None:
    class Healthy(BaseHTTPRequestHandler):
        """Answers every request."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Healthy) as http_server:
        thread = Thread(target=http_server.serve_forever, args=(0.05,))
        thread.start()
        wait_until_ready(_server_at(http_server.server_port), sleeper)
        http_server.shutdown()
        thread.join()


def test_waiting_ends_when_the_server_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])

    with pytest.raises(StageError, match="ended with status 7"):
        wait_until_ready(_server_at(9), process)


def test_waiting_ends_after_a_while(sleeper: "subprocess.Popen[bytes]") -> None:
    with pytest.raises(StageError, match="does not answer at"):
        wait_until_ready(_server_at(9), sleeper, timeout_s=0.1)


def test_links_lead_past_the_start_page() -> None:
    address = "http://127.0.0.1:5000"

    assert (
        runs_link(address, "1") == f"{address}/#/experiments/1/runs?workflowType=machine_learning"
    )
    assert run_link(address, "1", "abc").startswith(f"{address}/#/experiments/1/runs/abc")


def _server_at(port: int) -> DashboardServer:
    return replace(dashboard_server(_URI), address=f"http://127.0.0.1:{port}")
