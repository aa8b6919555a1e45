"""What a command costs, with all that it starts: Ray's processes outlive their parents.

python -m tests.bench.process_cost LOG COMMAND ...
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.command import require_success

_REPOSITORY = Path(__file__).parents[2]
_PR_SET_CHILD_SUBREAPER = 36  # of linux/prctl.h
_LOOK_S = 0.2  # what a process takes after the last look is lost


class Cost(NamedTuple):
    """Of a command and its descendants."""

    processor_s: float
    """Of all processors together."""
    clock_s: float
    """Until the command itself has ended."""


def cost_of(command: Sequence[str], log: Path) -> Cost:
    """Runs ``command`` to its end, and waits for whatever it leaves behind.

    Raises:
        SystemExit: the command failed; has the end of ``log``, which has what it wrote.
    """
    measuring = [sys.executable, "-m", __name__, str(log), *command]
    output = subprocess.check_output(measuring, cwd=_REPOSITORY)
    status, *cost = json.loads(output)
    require_success(status, command, log)
    return Cost(*cost)


def _measure(log: Path, command: Sequence[str]) -> tuple[int, float, float]:
    """Status and cost of the first command of this process, which becomes the parent of orphans."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    spent: dict[tuple[int, int], int] = {}
    started_s = time.monotonic()
    with log.open("w") as output:
        running = subprocess.Popen(command, stdout=output, stderr=output)
    while (status := running.poll()) is None:
        spent |= _spent_ticks(os.getpid())
        time.sleep(_LOOK_S)
    clock_s = time.monotonic() - started_s
    while left := _spent_ticks(os.getpid()):
        spent |= left
        _bury_orphans()
        time.sleep(_LOOK_S)
    return status, sum(spent.values()) / os.sysconf("SC_CLK_TCK"), clock_s


def _spent_ticks(ancestor: int) -> dict[tuple[int, int], int]:
    """Of processors, by each descendant: by its number and start, as numbers are used again.

    Asked again and again, since Ray's raylet ignores the end of its children: nobody is told then
    what they took.
    """
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # has ended since
        pid = int(path.parent.name)
        parents[pid] = int(fields[1])
        ticks[pid, int(fields[19])] = int(fields[11]) + int(fields[12])
    return {key: spent for key, spent in ticks.items() if _is_below(key[0], ancestor, parents)}


def _is_below(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    while pid := parents.get(pid, 0):
        if pid == ancestor:
            return True
    return False


def _bury_orphans() -> None:
    """Takes note of those that have ended: until then they count as there."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(Path(sys.argv[1]), sys.argv[2:])))
