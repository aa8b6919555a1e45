"""A signal stops the command in order, and leaves the handlers as they were."""

import os
import signal
from contextlib import suppress

import pytest

from sigma_pipeline.infra.errors import Interrupted, PipelineError
from sigma_pipeline.pipeline.stop_signals import interruptible


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_becomes_an_interruption_with_status_75(number: signal.Signals) -> None:
    with pytest.raises(Interrupted, match=f"stopped by {number.name}") as caught, interruptible():
        os.kill(os.getpid(), number)

    assert caught.value.exit_status == 75


def test_clean_up_inside_runs_before_the_interruption_leaves() -> None:
    seen = []

    @interruptible()
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            seen.append("cleaned up")

    with pytest.raises(Interrupted):
        work()
    assert seen == ["cleaned up"]


def test_nothing_that_handles_errors_of_the_pipeline_swallows_a_signal() -> None:
    @interruptible()
    def work() -> None:
        with suppress(PipelineError, OSError, ValueError, RuntimeError):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        work()


def test_the_exit_of_a_library_that_took_the_signal_is_an_interruption_too() -> None:
    with pytest.raises(Interrupted, match="stopped by a signal"), interruptible():
        raise SystemExit(1)


def test_a_signal_is_named_even_if_a_library_makes_an_interrupt_of_its_own_of_it() -> None:
    @interruptible()
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None

    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        work()


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    with interruptible():
        assert signal.getsignal(signal.SIGTERM) is not before

    assert signal.getsignal(signal.SIGTERM) is before
