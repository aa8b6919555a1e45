"""One Ray cluster on the nodes of one SLURM job, which runs this program once on each of them.

Rank 0 is the driver and has the head; it tells the others where that is, and when it is done,
through a file in the job's folder, which only their user can read: it holds the token. The others
lend their nodes until then. When one of their nodes dies, SLURM leaves the job the rest of them.
When that of rank 0 dies, any other rank has SLURM start the job again.
"""

import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self

from sigma_pipeline.infra.errors import BadNodes, ConfigError
from sigma_pipeline.jobs.backlog import GIB
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.next_start import requeue
from sigma_pipeline.jobs.node_names import expand_nodes, nodes_by_rank
from sigma_pipeline.jobs.ray_cluster import (
    OBJECT_STORE_BYTES,
    OWN_SETTINGS,
    OwnCluster,
    node_shapes,
    reach,
)
from sigma_pipeline.jobs.ray_folder import RayFolder
from sigma_pipeline.jobs.ray_shortage import NodeShape
from sigma_pipeline.jobs.slurm import SlurmError, cancel, job_view
from sigma_pipeline.jobs.submit import job_folder

log = logging.getLogger(__name__)

_JOIN_TIMEOUT_S = 300.0
"""For all nodes to join: some import Ray from a network file system while it is slow."""
_POLL_INTERVAL_S = 0.5
_ASK_INTERVAL_S = 60.0
_PAUSE_S = 10.0
"""Before a node that fell out of the cluster joins it again."""
_END_TIMEOUT_S = 10.0
_NO_REQUEUE = "disabled"
"""How SLURM refuses that for jobs that may not begin again; another one of a chain then follows."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Allocation:
    """This process among those that SLURM started for one job, one on each node."""

    job_id: str
    rank: int
    nodes: tuple[str, ...]
    """Of each rank."""
    meeting_file: Path

    @classmethod
    def current(cls) -> Self:
        """That of this process.

        Raises:
            ConfigError: it is of no job that has several nodes.
        """
        environment, folder = os.environ, job_folder()
        nodes = nodes_by_rank(int(environment.get("SLURM_NTASKS", "1")))
        if folder is None or len(nodes) < 2:
            raise ConfigError(
                "launch.evaluate.nodes asks for several nodes, which only a job of SLURM has; set "
                "launch.cluster=slurm, or launch.evaluate.nodes=1"
            )
        job_id, restart = environment["SLURM_JOB_ID"], environment.get("SLURM_RESTART_COUNT", "0")
        rank = int(environment["SLURM_PROCID"])
        return cls(job_id, rank, nodes, folder / f"ray-{job_id}-{restart}.json")

    def meet(self, address: str, token: str) -> None:
        """Tells the others where the head is, or, with nothing in either, that they may leave."""
        unfinished = self.meeting_file.with_suffix(".new")
        with open(unfinished, "w", opener=_private) as file:
            json.dump({"address": address, "token": token}, file)
        unfinished.rename(self.meeting_file)

    def meeting(self) -> Mapping[str, str] | None:
        """What rank 0 has told, if it has told anything yet."""
        try:
            told: Mapping[str, str] = json.loads(self.meeting_file.read_text())
        except FileNotFoundError:
            return None
        return told

    def has_lost_head(self) -> bool:
        """Whether SLURM has taken the node of rank 0 out of the job; no if it does not answer."""
        try:
            view = job_view(self.job_id)
        except SlurmError as error:
            log.warning("Whether node %s is still there is not known: %s", self.nodes[0], error)
            return False
        return view is not None and self.nodes[0] not in expand_nodes(view.nodes)


class AllocatedCluster(OwnCluster):
    """Ray on all nodes of this job; for rank 0."""

    def __init__(self, launch: EvaluateLaunchConfig, allocation: Allocation) -> None:
        super().__init__(launch)
        self._allocation = allocation

    def expected(self) -> Collection[NodeShape]:
        """See ``RayCluster``."""
        return [*super().expected()] * len(self._allocation.nodes)

    def start(self) -> ModuleType:
        """See ``RayCluster``.

        Raises:
            BadNodes: some did not join in time; names them.
        """
        nodes = self._allocation.nodes
        ray = self.start_at(_node_ip_address=_address_towards(nodes[1]), _node_name=nodes[0])
        self._allocation.meet(ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"])
        deadline_s = time.monotonic() + _JOIN_TIMEOUT_S
        while missing := set(nodes) - {node.name for node in node_shapes(ray)}:
            if time.monotonic() > deadline_s:
                hosts = tuple(sorted(missing))
                raise BadNodes(
                    f"Ray did not come up on {', '.join(hosts)} within {_JOIN_TIMEOUT_S:.0f} s; "
                    f"their logs lie in {self._allocation.meeting_file.parent}",
                    hosts,
                )
            time.sleep(_POLL_INTERVAL_S)
        return ray

    def stop(self) -> None:
        """See ``RayCluster``; the other nodes leave by themselves."""
        self._allocation.meet("", "")
        super().stop()


def lend_node(launch: EvaluateLaunchConfig, allocation: Allocation) -> None:
    """Makes this node one of the cluster of rank 0 until that needs it no more; for other ranks."""
    while (meeting := _wait_for_meeting(allocation))["address"]:
        try:
            reach(meeting["address"])  # Ray itself would try for five minutes
        except OSError as error:
            log.warning("The head of the Ray cluster does not answer: %s", error)
        else:
            _serve(launch, allocation, meeting)
        if allocation.meeting() == meeting:
            log.warning("This node is not in the Ray cluster; it will join again")
            _requeue_without_head(allocation)
            time.sleep(_PAUSE_S)


def _wait_for_meeting(allocation: Allocation) -> Mapping[str, str]:
    """Rank 0 starts Ray when it finds something to do: after a commit of training, it may be."""
    asked_at_s = time.monotonic()
    while (meeting := allocation.meeting()) is None:
        time.sleep(_POLL_INTERVAL_S)
        if time.monotonic() - asked_at_s > _JOIN_TIMEOUT_S:
            asked_at_s = time.monotonic()
            _requeue_without_head(allocation)
    return meeting


def _requeue_without_head(allocation: Allocation) -> None:
    """The job's script was on that node: without it, SLURM would wait for the time limit."""
    if not allocation.has_lost_head():
        return
    log.warning("Node %s is gone, and the driver with it: starting again", allocation.nodes[0])
    try:
        requeue(allocation.job_id)
    except SlurmError as error:
        log.error("The job cannot be queued again: %s", error)
        if _NO_REQUEUE in str(error):
            cancel(allocation.job_id)


def _serve(
    launch: EvaluateLaunchConfig, allocation: Allocation, meeting: Mapping[str, str]
) -> None:
    """Runs Ray on this node until it ends or rank 0 is done with it."""
    folder = RayFolder()
    process = subprocess.Popen(
        _command(launch, allocation, meeting["address"], folder),
        env={**OWN_SETTINGS, **os.environ, "RAY_AUTH_MODE": "token"}
        | {"RAY_AUTH_TOKEN": meeting["token"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=_end_with_parent,
    )
    asked_at_s, has_head = time.monotonic(), True
    try:
        while has_head and process.poll() is None and allocation.meeting() == meeting:
            time.sleep(_POLL_INTERVAL_S)
            # Ray may take minutes to find out that a machine is gone that said nothing.
            if time.monotonic() - asked_at_s > _ASK_INTERVAL_S:
                asked_at_s, has_head = time.monotonic(), not allocation.has_lost_head()
    finally:
        process.terminate()
        folder.empty()  # at once: SLURM may not leave the seconds that Ray takes to end
        try:
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        folder.remove()


def _command(
    launch: EvaluateLaunchConfig, allocation: Allocation, address: str, folder: RayFolder
) -> list[str]:
    memory = [] if launch.memory_gib is None else [f"--memory={int(launch.memory_gib * GIB)}"]
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
        f"--address={address}",
        f"--node-ip-address={_address_towards(allocation.nodes[0])}",
        f"--node-name={allocation.nodes[allocation.rank]}",
        f"--num-cpus={launch.cpus}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        *memory,
        f"--temp-dir={folder.path}",
        # Of the system's choice: jobs that share a node would else take the same ones.
        "--min-worker-port=0",
        "--max-worker-port=0",
    ]


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _address_towards(host: str) -> str:
    """The address of this machine in the network in which it reaches ``host``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        return str(probe.getsockname()[0])


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
