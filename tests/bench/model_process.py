"""Processes that take steps, or assign tokens, when they are told to.

Each has an allocator and caches of its own, as training has, so that one does not pay for what
another leaves behind.

    python -m tests.bench.model_process ours fp32 2     a step for each line on standard input
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any, NamedTuple, Self

from torch import Tensor

from sigma_pipeline.jobs.allocator import keep_freed_memory
from tests.bench.model_sinkhorn import LABELS, features
from tests.bench.model_step import Case, Step
from tests.bench.seconds import seconds_of


class Taken(NamedTuple):
    """What one call took."""

    seconds: float
    peak_bytes: int
    """The most of memory until now, above what the process had before it built a model, or beside
    the features it was given."""
    loss: float = 0.0
    parts: Mapping[str, float] = MappingProxyType({})
    """Seconds of each part of a step."""


class BenchProcess:
    """One of them, seen from outside."""

    def __init__(self, *what: str | int) -> None:
        command = [sys.executable, "-m", "tests.bench.model_process", *map(str, what)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        """Is running already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends when there is nothing more to read."""
        stdin, stdout = self._pipes()
        stdin.close()
        self._process.wait()
        stdout.close()

    def __call__(self) -> Taken:
        """Has it done once."""
        stdin, stdout = self._pipes()
        stdin.write("\n")
        stdin.flush()
        if not (answer := stdout.readline()):
            raise SystemExit(f"{self._process.args} ended with status {self._process.wait()}")
        return Taken(**json.loads(answer))

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


def _steps(what: list[str]) -> Callable[[], dict[str, Any]]:
    """Takes a step for each line."""
    step = Step(Case.named(what[0], what[1], int(what[2])))

    def take() -> dict[str, Any]:
        seconds, loss, parts = step()
        return {"seconds": seconds, "loss": loss, "parts": parts.seconds}

    return take


def _labels(who: str, tokens: Tensor, prototypes: Tensor) -> Callable[[], dict[str, Any]]:
    """Assigns tokens for each line."""
    labels = LABELS[who]
    return lambda: {"seconds": seconds_of(lambda: labels(tokens, prototypes))}


def _status_bytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def main(what: list[str]) -> None:
    """Serves standard input."""
    if what[0] in ("ours", "parts", "kept"):
        keep_freed_memory()  # as the processes of training do
    given = features() if what[0] == "sinkhorn" else None
    before = _status_bytes("VmRSS")
    call = _steps(what) if given is None else _labels(what[1], *given)
    for _ in sys.stdin:
        done = call() | {"peak_bytes": _status_bytes("VmHWM") - before}
        sys.stdout.write(json.dumps(done) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
