"""Freed memory stays with the process, so that what is asked for again is there."""

import ctypes
import subprocess
import sys

import pytest

from sigma_pipeline.jobs.allocator import keep_freed_memory

PROGRAM = """
import ctypes, resource, sys
import torch
from sigma_pipeline.jobs.allocator import keep_freed_memory
PR_SET_THP_DISABLE = 41  # pages of 2 MiB would hide what is counted here
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(3)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step():
    first, second = torch.ones(16 << 20), torch.ones(15 << 20)
    del first
    third = torch.ones(9 << 20)

for _ in range(20):
    step()
before = faults()
for _ in range(3):
    step()
print(faults() - before)
"""
PAGES = 3 * (40 << 22) // 4096


def page_faults(how: str) -> int:
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("this C library keeps no freed memory")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_large_tensors_are_not_filled_by_the_system_anew() -> None:
    assert page_faults("kept") < PAGES / 100
    assert page_faults("given back") > PAGES / 2, "the test sees no difference"


class CLibrary:
    """Takes settings up to a size."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.asked: list[tuple[int, int]] = []

    def mallopt(self, setting: int, value: int) -> int:
        """Whether it was taken."""
        self.asked.append((setting, value))
        return int(value <= self.largest)


@pytest.mark.parametrize(
    ("largest", "is_kept", "asked"),
    [
        (128 << 20, True, [(-3, 128 << 20), (-1, -1)]),
        (32 << 20, True, [(-3, 128 << 20), (-3, 32 << 20), (-1, -1)]),
        (0, False, [(-3, 128 << 20), (-3, 32 << 20)]),
    ],
)
def test_memory_is_never_trimmed_only_where_large_tensors_are_kept(
    largest: int, is_kept: bool, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = CLibrary(largest)
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)

    assert keep_freed_memory() is is_kept
    assert library.asked == asked


def test_a_c_library_without_settings_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())

    assert keep_freed_memory() is False
