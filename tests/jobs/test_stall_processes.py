"""Real processes that no longer move: all end in time, and those to blame are named."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TIMEOUT_S = 6.0
SLACK_S = 14.0
"""For the looks and the report, on a machine with other work."""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ``stall_rank`` as a rank; ends it after the test, however it went."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        rendezvous = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    processes = []

    def begin(rank: int, sleeps_at: str = "never") -> subprocess.Popen[str]:
        program = Path(__file__).with_name("stall_rank.py")
        arguments = [str(rank), rendezvous, str(TIMEOUT_S), told(tmp_path, rank), sleeps_at]
        with (tmp_path / f"{rank}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", program, *arguments],
                stderr=log,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.wait()


def told(folder: Path, rank: int) -> Path:
    return folder / f"{rank}.json"


def wait_until_moving(folder: Path, *ranks: subprocess.Popen[str]) -> None:
    deadline_s = time.monotonic() + 120
    while not told(folder, 0).with_suffix(".moves").exists():
        assert all(rank.poll() is None for rank in ranks)
        assert time.monotonic() < deadline_s, "the ranks did not come up"
        time.sleep(0.05)


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_rank_ends_the_others_which_name_it(
    start: Start, tmp_path: Path, frozen: int
) -> None:
    ranks = [start(0), start(1)]
    wait_until_moving(tmp_path, *ranks)

    ranks[frozen].send_signal(signal.SIGSTOP)
    status = ranks[1 - frozen].wait(TIMEOUT_S + SLACK_S)

    assert status == 1
    assert ranks[frozen].wait(5) == -signal.SIGKILL  # else a job on one machine would not end
    reason, bad_nodes, step = json.loads(told(tmp_path, 1 - frozen).read_text())
    assert f"rank {frozen} on {socket.gethostname()}" in reason
    assert "furthest behind" not in reason
    assert bad_nodes == []  # the only node that there is
    assert step > 20
    log = (tmp_path / f"{1 - frozen}.log").read_text()
    assert "ERROR jobs.watchdog: training does not move: " in log
    assert "stall_rank.py" in log  # the stacks


def test_a_rank_that_is_stuck_in_its_own_code_is_named_by_all(start: Start, tmp_path: Path) -> None:
    ranks = [start(0), start(1, sleeps_at="40")]
    wait_until_moving(tmp_path, *ranks)

    statuses = [rank.wait(TIMEOUT_S + SLACK_S) for rank in ranks]

    assert 1 in statuses  # the other may lose its connection first
    assert all(statuses)
    reasons = [json.loads(file.read_text())[0] for file in sorted(tmp_path.glob("?.json"))]
    named = f"rank 1 on {socket.gethostname()} furthest behind, at 'data' after step 40"
    assert reasons
    assert all(named in reason for reason in reasons)
