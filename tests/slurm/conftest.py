"""The cluster that ``infra/slurm/up.sh`` starts."""

import os
import subprocess
from pathlib import Path

import pytest


class Cluster:
    """Four nodes on this machine, n1 to n4, that share its file system."""

    def __init__(self, scripts: Path) -> None:
        self._scripts = scripts

    def ask(self, *command: str) -> list[str]:
        """Lines that one of SLURM's commands prints."""
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    def tasks(self) -> list[tuple[str, str]]:
        """(state, node) of each task that is not over, over all jobs."""
        lines = self.ask("squeue", "--noheader", "--array", "--format=%T %N")
        return [(state, node) for state, _, node in (line.partition(" ") for line in lines)]

    def crash(self, node: str) -> None:
        """Ends a node as a power cut would."""
        subprocess.run([self._scripts / "node.sh", "crash", node], check=True)

    def start(self, node: str) -> None:
        """Brings it back."""
        subprocess.run([self._scripts / "node.sh", "start", node], check=True)


@pytest.fixture(scope="session")
def cluster(repository: Path) -> Cluster:
    """Skips tests where there is no such cluster; they would crash nodes of any other."""
    if "SLURM_CONF" not in os.environ:
        pytest.skip("no test cluster: SLURM_CONF is not set; see infra/slurm/up.sh")
    cluster = Cluster(repository / "infra" / "slurm")
    try:
        settings = cluster.ask("scontrol", "show", "config")
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the test cluster does not answer: {error}")
    if not any(line.split() == ["ClusterName", "=", "sigma"] for line in settings):
        pytest.skip("SLURM_CONF leads to another cluster than that of infra/slurm/up.sh")
    return cluster
