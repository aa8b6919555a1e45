"""MLflow's own web pages for a local database: the server's command, and links into it."""

import http.client
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.mlflow_run import local_database

_HOST = "127.0.0.1"
_TRAINING_VIEW = "workflowType=machine_learning"  # else MLflow 3 opens in its view for chat bots
_QUIET_AND_LIGHT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # 2 processes instead of 10, half the memory, and up sooner
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONWARNINGS": "ignore",
}


@dataclass(frozen=True)
class DashboardServer:
    """A server that shows one database, on this machine only; not started yet."""

    arguments: tuple[str, ...]
    """The command; start it with ``environment``."""
    environment: dict[str, str]
    address: str
    """``http://127.0.0.1:PORT``."""


def dashboard_server(tracking_uri: str, port: int | None = None) -> DashboardServer:
    """The server of a ``sqlite:///`` address, at ``port`` or at one that is free now.

    Raises:
        ConfigError: ``tracking_uri`` is a server already, or the port is taken.
    """
    database = local_database(tracking_uri)
    if database is None:
        raise ConfigError(f"{tracking_uri} is a server already; open it in a browser")
    port = _free_port(port or 0)
    arguments = (
        *(sys.executable, "-P", "-m", "mlflow", "server", "--host", _HOST, "--port", str(port)),
        *("--backend-store-uri", tracking_uri, "--workers", "1"),
        *("--artifacts-destination", str(database.with_name("artifacts"))),
        *("--uvicorn-opts", "--log-level warning"),
    )
    return DashboardServer(arguments, os.environ | _QUIET_AND_LIGHT, f"http://{_HOST}:{port}")


def wait_until_ready(
    server: DashboardServer, process: "subprocess.Popen[bytes]", timeout_s: float = 60.0
) -> None:
    """Returns once the server answers.

    Raises:
        StageError: it ended, or did not answer in time; it is not stopped here.
    """
    deadline = time.monotonic() + timeout_s
    while not _answers(server.address):
        status = process.poll()
        if status is not None:
            raise StageError(f"the dashboard ended with status {status}; its output says why")
        if time.monotonic() > deadline:
            raise StageError(f"the dashboard does not answer at {server.address} in {timeout_s} s")
        time.sleep(0.2)


def runs_link(address: str, experiment_id: str) -> str:
    """The page that lists an experiment's runs, in the view made for training."""
    return f"{address}/#/experiments/{experiment_id}/runs?{_TRAINING_VIEW}"


def run_link(address: str, experiment_id: str, run_id: str) -> str:
    """The page with the curves of one run."""
    return f"{address}/#/experiments/{experiment_id}/runs/{run_id}/model-metrics?{_TRAINING_VIEW}"


def _free_port(port: int) -> int:
    """``port`` if nobody listens there; a free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise ConfigError(f"port {port} cannot be used: {error.strerror}") from error
        return int(probe.getsockname()[1])


def _answers(address: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
