"""Waiting for what other processes make."""

import time
from collections.abc import Callable
from typing import TypeVar

POLL_S = 0.05

T = TypeVar("T")


def until(look: Callable[[], T | None], what: str, patience_s: float) -> T:
    """What ``look`` finds in the end.

    Raises:
        SystemExit: it did not find anything in ``patience_s``.
    """
    give_up_s = time.monotonic() + patience_s
    while time.monotonic() < give_up_s:
        if found := look():
            return found
        time.sleep(POLL_S)
    raise SystemExit(f"waited {patience_s:g} s for {what} in vain")
