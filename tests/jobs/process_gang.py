"""A gang of real processes that meet over a file; also run as one of its processes.

Arguments: folder, rank, number of ranks. The folder has ``call.pickle``, written by the test, with
a function and its arguments; the process leaves ``<rank>.pickle`` with what came of it.
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.train_request import RankPlace


class ProcessGang:
    """See ``Gang``; each call has fresh processes."""

    def __init__(self, size: int, folder: Path) -> None:
        """``folder``: for what processes hand over."""
        self.size = size
        self._folder = folder
        self._calls = 0
        self.processes: list[subprocess.Popen[bytes]] = []
        """Of the newest call."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """See ``Gang``."""
        self._calls += 1
        folder = self._folder / str(self._calls)
        folder.mkdir(parents=True)
        (folder / "call.pickle").write_bytes(pickle.dumps((function, arguments)))
        words = [sys.executable, "-P", "-m", "tests.jobs.process_gang", str(folder)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        self.processes = [
            subprocess.Popen([*words, str(rank), str(self.size)], env=environment)
            for rank in range(self.size)
        ]
        while None in (states := [process.poll() for process in self.processes]):
            if any(states):
                self.kill()
            time.sleep(0.05)
        if any(states):
            raise StageError(f"processes of the gang ended with {states}")
        return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(self.size)]

    def kill(self) -> None:
        """As a power cut would."""
        for process in self.processes:
            process.kill()


def main(folder: Path, rank: int, size: int) -> None:
    """One process."""
    torch.set_num_threads(1)
    function, arguments = pickle.loads((folder / "call.pickle").read_bytes())
    place = RankPlace(rank, size, rank, str(folder / "rendezvous"))
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(function(place, *arguments)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
