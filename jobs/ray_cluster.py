"""Where Ray comes from: started in this process, and on the other nodes of its job, or found.

What is started here is of this process alone: under a token of its own, on ports that the system
chooses, with its files in a folder that goes away with it. So any number of evaluations may share
a machine. Ray's servers end with the process that started them, however that ends.

No other module imports Ray.
"""

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Protocol

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.jobs.backlog import GIB
from sigma_pipeline.jobs.code_copy import PACKAGE, copy_code
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.node_names import node_name
from sigma_pipeline.jobs.ray_folder import RayFolder
from sigma_pipeline.jobs.ray_room import Amounts
from sigma_pipeline.jobs.ray_shortage import NodeShape

log = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 100 << 20
"""Of memory. Features go through the run's store; what the processes of a gang say of test videos
comes through Ray, which keeps what is too much in its folder."""
_START_ATTEMPTS = 3
_ANSWER_TIMEOUT_S = 10.0
_QUIET: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
OWN_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A busy machine starts a worker slowly.
    "RAY_worker_register_timeout_seconds": "300",
    # What is left of a cluster whose first process is gone ends after so long, not after 60 s.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    # What a task started ends with it.
    "RAY_process_group_cleanup_enabled": "true",
}


class RayCluster(Protocol):
    """A Ray cluster that this process can use between ``start`` and ``stop``."""

    is_shared: bool
    """Whether others use its nodes too."""

    def expected(self) -> Collection[NodeShape]:
        """What its nodes will have: infinite where that is not known; no nodes, if nothing is."""
        ...

    def start(self) -> ModuleType:
        """Ray, connected.

        Raises:
            ConfigError: there is no such cluster, or it is not for this process.
            StageError: it did not come up.
        """
        ...

    def stop(self) -> None:
        """Ends what ``start`` began, tasks that still run included; nothing else."""
        ...


class OwnCluster:
    """Ray on this machine, as children of this process."""

    is_shared = False

    def __init__(self, launch: EvaluateLaunchConfig) -> None:
        self._launch = launch
        self._ray: ModuleType | None = None
        self._folder: RayFolder | None = None

    def expected(self) -> Collection[NodeShape]:
        """See ``RayCluster``."""
        memory_gib = self._launch.memory_gib or float("inf")
        return [NodeShape(cpus=self._launch.cpus, gpus=float("inf"), memory_gib=memory_gib)]

    def start(self) -> ModuleType:
        """See ``RayCluster``."""
        return self.start_at(_node_name=node_name())

    def start_at(self, **place: str) -> ModuleType:
        """Starts Ray, which gives its own processes 30 s: on a busy machine that may be too short.

        Args:
            place: more of what ``ray.init`` takes: the node's address and name.
        """
        self._ray = import_ray()
        for attempts_left in reversed(range(_START_ATTEMPTS)):
            self._folder = RayFolder()
            try:
                with _kept_signal_handler():
                    self._ray.init(address="local", **self._settings(self._folder), **place)
                break
            except Exception as error:  # Ray raises nothing more exact than this
                self._end()
                if not attempts_left:
                    raise StageError(f"Ray did not start: {one_line(error)}") from error
                log.warning("Ray did not start, trying again: %s", one_line(error))
        return self._ray

    def stop(self) -> None:
        """See ``RayCluster``."""
        self._end()

    def _end(self) -> None:
        if self._folder is not None:
            assert self._ray is not None
            self._folder.empty()  # at once: SLURM may not leave the seconds that Ray takes to end
            self._ray.shutdown()
            self._folder.remove()
            self._folder = None

    def _settings(self, folder: RayFolder) -> dict[str, Any]:
        settings = {
            "num_cpus": self._launch.cpus,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": str(folder.path),
            **_QUIET,
        }
        if self._launch.memory_gib is not None:
            settings["_memory"] = int(self._launch.memory_gib * GIB)
        return settings


class FoundCluster:
    """A Ray cluster that somebody else runs; nothing is started or ended there but our tasks.

    Tasks import the package as it is here, which is sent along; all else they take from the
    environment that the cluster was started in, credentials of the store for instance.
    """

    is_shared = True

    def __init__(self, address: str) -> None:
        self._address = address
        self._ray: ModuleType | None = None

    def expected(self) -> Collection[NodeShape]:
        """See ``RayCluster``."""
        return ()

    def start(self) -> ModuleType:
        """See ``RayCluster``."""
        self._require_answer()
        if os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        import ray

        folder = RayFolder()
        try:
            with _kept_signal_handler():
                ray.init(
                    address=self._address,
                    runtime_env={"py_modules": [str(copy_code(folder.path) / PACKAGE)]},
                    **_QUIET,
                )
        except Exception as error:  # Ray raises nothing more exact than this
            ray.shutdown()
            raise ConfigError(self._refusal(error)) from error
        finally:
            folder.remove()
        self._ray = ray
        return ray

    def stop(self) -> None:
        """See ``RayCluster``."""
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None

    def _require_answer(self) -> None:
        """Ray itself would try for five minutes."""
        try:
            reach(self._address)
        except (OSError, ValueError) as error:
            raise ConfigError(self._refusal(error)) from error

    def _refusal(self, error: BaseException | None) -> str:
        causes: list[str] = []
        while error is not None:
            causes.append(" ".join(str(error).split()))
            error = error.__cause__
        return (
            f"launch.evaluate.ray_address={self._address} cannot be used: {': '.join(causes)}. "
            "Run this command on a node of that cluster, with its Python and its Ray, and with its "
            "token, if it has one, in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        )


def import_ray() -> ModuleType:
    """Ray, told before it is loaded to want a token of this process; for a cluster of our own.

    By itself it would write a token to the home directory, readable by others.
    """
    if "ray" not in sys.modules:
        for name, value in OWN_SETTINGS.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    return ray


def reach(address: str) -> None:
    """Makes sure that something listens at ``host:port``.

    Raises:
        OSError: nothing does.
        ValueError: it has no port.
    """
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), _ANSWER_TIMEOUT_S).close()


def node_shapes(ray: ModuleType) -> list[NodeShape]:
    """The nodes of a cluster that are alive."""
    return [
        NodeShape(node_id=node["NodeID"], name=node["NodeName"], **_amounts(node["Resources"]))
        for node in ray.nodes()
        if node["Alive"]
    ]


def left_of_nodes(ray: ModuleType) -> dict[str, Amounts]:
    """What nobody uses of each node, by Ray's number of it; known a moment late."""
    left = left_resources(ray)
    return {node_id: Amounts(**_amounts(resources)) for node_id, resources in left.items()}


def left_resources(ray: ModuleType) -> Mapping[str, Mapping[str, float]]:
    """The same with Ray's names, those of placement groups among them."""
    left: Mapping[str, Mapping[str, float]] = ray._private.state.available_resources_per_node()
    return left


def _amounts(resources: Mapping[str, float]) -> dict[str, float]:
    return {
        "cpus": resources.get("CPU", 0.0),
        "gpus": resources.get("GPU", 0.0),
        "memory_gib": resources.get("memory", 0.0) / GIB,
    }


def one_line(error: BaseException) -> str:
    """Kind and first line of an error."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


@contextmanager
def _kept_signal_handler() -> Iterator[None]:
    """Undoes that Ray replaces the process's handler of SIGTERM."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # None: not set from Python, and not to be set again from there.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
