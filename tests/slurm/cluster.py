"""The cluster that ``infra/slurm/up.sh`` starts: its nodes, their processes, its jobs."""

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_POLL_INTERVAL_S = 0.1


class Cluster:
    """Nodes on this machine, n1, n2, ..., that share its file system.

    Tests that run at the same time, in processes of their own, keep off each other's nodes by locks
    on files beside the cluster's state.
    """

    def __init__(self, scripts: Path, state: Path) -> None:
        self._scripts = scripts
        self._network = os.environ.get("SIGMA_SLURM_NAME", "sigma")
        self._locks = state / "held"
        self._locks.mkdir(exist_ok=True)

    def ask(self, *command: str) -> list[str]:
        """Lines that a command prints, one of SLURM's for instance."""
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    @property
    def nodes(self) -> list[str]:
        """Names of all nodes."""
        return self.ask("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N")

    def others(self, nodes: Sequence[str]) -> list[str]:
        """Names of all nodes but these."""
        return [node for node in self.nodes if node not in nodes]

    @contextmanager
    def held(self, count: int) -> Iterator[tuple[str, ...]]:
        """So many nodes that no other test uses meanwhile."""
        with ExitStack() as locks:
            with (self._locks / "queue").open("w") as queue:  # else who wants many never gets them
                fcntl.flock(queue, fcntl.LOCK_EX)
                held: list[str] = []
                wait_until(lambda: self._take_free(held, count, locks), timeout_s=600)
            yield tuple(held)

    def _take_free(self, held: list[str], count: int, locks: ExitStack) -> bool:
        """Adds free nodes to ``held``; whether there are enough."""
        for node in self.nodes:
            if len(held) < count and node not in held:
                lock = (self._locks / node).open("w")
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    lock.close()
                else:
                    locks.enter_context(lock)
                    held.append(node)
        return len(held) == count

    def limit_network(self, node: str, rate: str) -> None:
        """To a rate such as ``8mbit``: ranks then wait for each other without work to be done."""
        bucket = ("tbf", "rate", rate, "burst", "16kb", "latency", "500ms")
        device = ("tc", "qdisc", "replace", "dev", "eth0", "root")
        self.ask("ip", "netns", "exec", f"{self._network}-{node}", *device, *bucket)

    def crash(self, node: str) -> None:
        """Ends a node as a power cut would."""
        subprocess.run([self._scripts / "node.sh", "crash", node], check=True)

    def start(self, node: str) -> None:
        """Brings it back."""
        subprocess.run([self._scripts / "node.sh", "start", node], check=True)

    def wait_for_node(self, node: str) -> None:
        """Until SLURM would use it."""
        show = ("sinfo", "--noheader", "--partition=main", f"--nodes={node}", "--format=%t")
        wait_until(lambda: self.ask(*show)[0] in ("idle", "mix", "alloc"))

    def states(self, run_name: str) -> list[str]:
        """Of each job, or task of an array, that bears the name of the run and is not over."""
        lines = self.ask("squeue", "--noheader", "--array", "--format=%T %j")
        jobs = (line.split(" ", 1) for line in lines)
        return [state for state, name in jobs if name.startswith(f"{run_name}-")]

    def job_ids(self, run_name: str) -> list[str]:
        """Of jobs whose names begin with that of the run, and which are not over."""
        lines = self.ask("squeue", "--noheader", "--format=%A %j")
        jobs = (line.split(" ", 1) for line in lines)
        return [job_id for job_id, name in jobs if name.startswith(f"{run_name}-")]

    def facts(self, job_id: str) -> dict[str, str]:
        """What ``scontrol show job`` says, by SLURM's names."""
        words = " ".join(self.ask("scontrol", "show", "job", job_id)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def processes(self, job_id: str, nodes: Sequence[str]) -> dict[int, dict[str, str]]:
        """Environment by process number of all that a job runs on these nodes."""
        spaces = (f"{self._network}-{node}" for node in nodes)
        pids = [int(pid) for space in spaces for pid in self.ask("ip", "netns", "pids", space)]
        found = {pid: _environment(pid) for pid in pids}
        return {pid: it for pid, it in found.items() if it.get("SLURM_JOB_ID") == job_id}

    def ranks(self, job_id: str, nodes: Sequence[str]) -> dict[int, int]:
        """Process number by rank: of each task the first process, whose children the others are."""
        ranks: dict[int, int] = {}
        for pid, environment in sorted(self.processes(job_id, nodes).items(), reverse=True):
            if environment.get("SLURM_STEP_ID") == "0" and b"submitit" in _command_line(pid):
                ranks[int(environment["SLURM_PROCID"])] = pid
        return ranks


def wait_until(is_true: Callable[[], object], timeout_s: float = 240) -> None:
    """Looks again and again; fails when it takes much longer than on a busy machine."""
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s, f"not so within {timeout_s:.0f} s"
        time.sleep(_POLL_INTERVAL_S)


def _environment(pid: int) -> dict[str, str]:
    """Empty once the process has ended."""
    with suppress(OSError):
        entries = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
        return dict(entry.split("=", 1) for entry in entries if "=" in entry)
    return {}


def _command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
