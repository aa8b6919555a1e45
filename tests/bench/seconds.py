"""How long a call takes."""

import time
from collections.abc import Callable


def seconds_of(call: Callable[[], object]) -> float:
    """By the clock."""
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


def fastest(call: Callable[[], object], tries: int = 10) -> float:
    """Of some calls: what nothing else got in the way of."""
    return min(seconds_of(call) for _ in range(tries))
