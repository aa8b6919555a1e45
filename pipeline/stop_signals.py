"""Asking the command to stop: the first signal lets everything be saved, a second one does not."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sigma_pipeline.infra.errors import Interrupted

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequested(KeyboardInterrupt):
    """Raised in the main thread by a signal; no handler of errors takes it for one."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Turns SIGTERM, Ctrl-C and a closed terminal into ``Interrupted``, after all clean-up inside.

    Ray puts a SIGTERM handler of its own in place that ends the process; its ``SystemExit`` is
    taken for the same wish. So is a ``KeyboardInterrupt`` that a library makes of ours.
    """
    heard: list[str] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        heard.append(signal.Signals(number).name)
        log.warning("%s: stopping, saving first; once more to stop at once", heard[-1])
        raise StopRequested(heard[-1])

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        reason = heard[0] if heard else "a signal"
        raise Interrupted(f"stopped by {reason}; the same command goes on from here") from end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
