"""Decoding processes: order, errors, and when they end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count, cycle, islice
from pathlib import Path

import pytest
import torch

from sigma_pipeline.data_prep.workers import read_ahead
from sigma_pipeline.infra.errors import StageError

PARENT = """
import multiprocessing, sys, time
from itertools import cycle
from sigma_pipeline.data_prep.workers import read_ahead

if __name__ == "__main__":
    items = read_ahead([7], cycle([0]), workers=2, prefetch=2)
    next(items)
    sys.stdout.write(" ".join(str(p.pid) for p in multiprocessing.active_children()) + "\\n")
    sys.stdout.flush()
    time.sleep(60)
"""


def has_ended(pid: int, within_s: float = 10) -> bool:
    deadline = time.monotonic() + within_s
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_items_come_in_the_order_of_their_places() -> None:
    assert list(read_ahead("abcde", [3, 0, 0, 4], workers=0, prefetch=1)) == ["d", "a", "a", "e"]


def test_the_error_of_an_item_is_raised_when_its_turn_has_come() -> None:
    source = ["first", StageError("sample x is broken"), "third"]
    items = read_ahead(source, range(3), workers=0, prefetch=1)

    assert next(items) == "first"
    with pytest.raises(StageError, match=r"^sample x is broken$"):
        next(items)


def test_reading_takes_no_draw_from_the_global_generator() -> None:
    before = torch.get_rng_state()

    list(read_ahead("abc", range(3), workers=0, prefetch=1))

    assert torch.equal(torch.get_rng_state(), before)


def test_a_fault_of_the_program_keeps_its_type() -> None:
    class Faulty:
        def __getitem__(self, place: int) -> int:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match=r"^a bug$"):
        next(read_ahead(Faulty(), [0], workers=0, prefetch=1))


@pytest.fixture
def endless() -> Iterator[Iterator[int]]:
    """Items made by one process, which is up."""
    items = read_ahead([7], cycle([0]), workers=1, prefetch=2)
    assert next(items) == 7
    yield items
    items.close()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_processes_make_the_same_items_in_the_same_order() -> None:
    source = [1, 2, StageError("sample 3 is broken")]
    items = read_ahead(source, count(), workers=2, prefetch=2)

    assert list(islice(items, 2)) == [1, 2]
    with pytest.raises(StageError, match=r"^sample 3 is broken$"):
        next(items)


@pytest.mark.slow
def test_signals_to_the_job_step_do_not_reach_the_decoding(endless: Iterator[int]) -> None:
    (process,) = multiprocessing.active_children()
    for name in ("TERM", "INT", "HUP", "USR1", "USR2"):
        subprocess.run(["kill", f"-{name}", str(process.pid)], check=True)
    time.sleep(1.5)

    assert list(islice(endless, 20)) == [7] * 20
    assert process.is_alive()


@pytest.mark.slow
def test_the_parent_can_end_a_process_that_hangs(endless: Iterator[int]) -> None:
    (process,) = multiprocessing.active_children()

    process.terminate()

    assert process.pid
    assert has_ended(process.pid)
    with pytest.raises(StageError, match="a decoding process ended"):
        list(islice(endless, 20))


@pytest.mark.slow
def test_a_killed_process_is_an_error_that_says_what_to_change(endless: Iterator[int]) -> None:
    (process,) = multiprocessing.active_children()

    os.kill(process.pid or 0, signal.SIGKILL)

    with pytest.raises(StageError, match=r"lower train\.loader\.workers"):
        list(islice(endless, 20))


@pytest.mark.slow
def test_processes_end_when_the_items_are_closed() -> None:
    items = read_ahead([7], cycle([0]), workers=2, prefetch=2)
    next(items)
    started = multiprocessing.active_children()

    items.close()  # type: ignore[attr-defined]

    assert len(started) == 2
    assert all(has_ended(process.pid or 0) for process in started)


@pytest.mark.slow
def test_processes_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, "-P", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()

    assert len(pids) == 2
    assert all(has_ended(pid) for pid in pids)
