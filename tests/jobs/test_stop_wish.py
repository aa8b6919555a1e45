"""Wishes to stop: signals, and the death of who waits."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from sigma_pipeline.jobs.stop_wish import (
    STOP_SIGNALS,
    StopWish,
    stop_on_signals,
)
from sigma_pipeline.jobs.train_request import ProcessIdentity


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_is_a_wish_and_nothing_more(number: signal.Signals) -> None:
    wish = StopWish()

    with stop_on_signals(wish):
        os.kill(os.getpid(), number)

    assert wish.is_wished()
    assert wish.reason == f"signal {number.name}"


def test_a_second_signal_changes_nothing() -> None:
    wish = StopWish()

    with stop_on_signals(wish):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR2)

    assert wish.reason == "signal SIGTERM"


def test_a_job_that_is_continued_after_a_pause_does_not_stop() -> None:
    wish = StopWish()

    with stop_on_signals(wish):
        os.kill(os.getpid(), signal.SIGCONT)

    assert not wish.is_wished()


def test_handlers_and_blocked_signals_are_put_back() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    handlers = [signal.getsignal(number) for number in STOP_SIGNALS]

    with stop_on_signals(StopWish()):
        assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, set())

    assert [signal.getsignal(number) for number in STOP_SIGNALS] == handlers
    assert signal.SIGHUP in signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def test_outside_the_main_thread_nothing_is_installed() -> None:
    seen = []

    def body() -> None:
        with stop_on_signals(StopWish()):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()

    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_the_death_of_a_watched_process_is_a_wish() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        watched = ProcessIdentity.of(child.pid)
        is_wished_before = StopWish([watched]).is_wished()
        child.kill()
        child.wait()

    wish = StopWish([watched, None])

    assert not is_wished_before
    assert wish.is_wished()
    assert wish.reason == f"process {child.pid}, which waited for this job, is gone"


def test_a_process_that_ended_but_was_not_waited_for_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        identity = ProcessIdentity.of(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert identity is not None
        assert not identity.is_alive()


def test_another_process_of_the_same_number_is_not_the_same() -> None:
    me = ProcessIdentity.current()

    assert me is not None
    assert me.is_alive()
    assert not ProcessIdentity(me.pid, me.started_ticks + 1).is_alive()


def test_nothing_heavy_is_imported_before_the_handlers_are_in_place() -> None:
    program = "import sys, sigma_pipeline.jobs.stop_wish; sys.exit('torch' in sys.modules)"

    subprocess.run([sys.executable, "-P", "-c", program], check=True)
