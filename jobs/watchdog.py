"""A watch over each rank: training that no longer moves is ended, and those to blame are named.

A collective waits for its slowest rank, so one rank that is frozen, dead, or stuck in its own code
holds up all. A thread beside each rank's main thread therefore leaves a sign of life for the others
every few seconds, and with it what its main thread is at. When its own main thread has been at one
thing for too long it compares: ranks without a sign of life are to blame; if all give one, those
furthest behind in the work are. What it finds is logged and recorded, and the process is ended.

It works while the main thread waits in C code, which releases the interpreter there. For code that
does not, ``faulthandler`` keeps a timer outside the interpreter, wound up by every sign of life.
"""

import faulthandler
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple
from types import TracebackType
from typing import Self

from sigma_pipeline.jobs.blame import PHASES, Beat, Blame, judge
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.node_names import blamed, shown_ranks
from sigma_pipeline.jobs.rank_notes import RankNotes, StoreSilent

log = logging.getLogger(__name__)

LEAVE_LIMIT_S = 300.0
"""From the end of the watch to that of the process. A store may be tried for half of it."""
REPORT_LIMIT_S = 60.0
"""For finding out who is to blame and for recording it. The process ends after it in any case."""
_BEAT_INTERVAL_S = 5.0
_STDERR = 2


class _Patience(Exception):  # noqa: N818 - of those who know what they wait for
    """Another rank waits for a store that is unreachable."""


class Watchdog:
    """The watch over one rank, for as long as it is entered."""

    def __init__(
        self,
        context: RankContext,
        timeout_s: float,
        tell: Callable[[str, tuple[str, ...], int], object],
        *,
        subject: str,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """Begins to count at once, in the phase ``start``.

        Args:
            context: of this rank.
            timeout_s: longest that it may stay in one phase.
            tell: records the end: reason, nodes to be avoided, steps taken.
            subject: of this attempt; tells its signs of life from those of others in one process.
            end: how the process is ended, with its exit status.
        """
        self._context = context
        self._timeout_s = timeout_s
        self._tell = tell
        self._end = end
        self._interval_s = min(_BEAT_INTERVAL_S, timeout_s / 12)
        store = context.store.clone()
        self._beats = RankNotes(store, f"beat/{subject}")
        self._blames = RankNotes(store, f"blame/{subject}")
        self._count = 0
        self._position = ("start", 0, time.monotonic())
        self._patient_since_s = float("-inf")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def at(self, phase: str, step: int) -> None:
        """Notes what the main thread begins now; costs nothing that could be measured.

        Args:
            phase: one of ``PHASES``.
            step: steps taken so far.
        """
        assert phase in PHASES
        self._position = (phase, step, time.monotonic())

    def note_outage(self) -> None:
        """Notes that the main thread waits for a store, and will know when to give up."""
        self.at("outage", self._position[1])

    def __enter__(self) -> Self:
        """Begins to watch."""
        wind_up(self._timeout_s + REPORT_LIMIT_S)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Tells the others that this rank leaves, which is not the same as silent.

        The timer goes on, for what comes after; it is ``ended_after`` that takes it away.
        """
        self.at("end" if kind is None else "failed", self._position[1])
        self._is_over.set()
        self._thread.join(2 * self._interval_s)  # it may hang in a store that does not answer
        wind_up(LEAVE_LIMIT_S)

    def _watch(self) -> None:
        while not self._is_over.wait(self._interval_s):
            wind_up(self._timeout_s + REPORT_LIMIT_S)
            since_s = max(self._position[2], self._patient_since_s)
            if time.monotonic() - since_s > self._timeout_s and self._look_into_it():
                return
            self._give_sign()
        self._give_sign()

    def _give_sign(self) -> None:
        phase, step, since_s = self._position
        self._count += 1
        beat = Beat(self._count, phase, step, round(time.monotonic() - since_s, 1))
        try:
            # Without names: a store in a file keeps all that was ever put.
            self._beats.put(self._context.rank, astuple(beat))
        except StoreSilent as error:
            # If rank 0 is gone, so are the collectives, and the main thread hears of it by itself.
            log.debug("No sign of life could be given: %s", error)

    def _look_into_it(self) -> bool:
        """Finds out, says and records who is to blame, and ends the process.

        Returns:
            Whether it does: not if the main thread has gone on meanwhile, nor in an outage.
        """
        wind_up(REPORT_LIMIT_S)
        position = self._position
        try:
            blame = self._find_blame()
            if self._position is position:
                self._blames.put(self._context.rank, asdict(blame))
        except _Patience:
            self._patient_since_s = time.monotonic()
            return False
        except StoreSilent:
            blame = self._blame_rank_0()
        if self._position is not position:
            return False
        try:
            self._kill_neighbours(blame.silent)  # first: a store may not answer in the time left
            self._report(blame)
        finally:
            self._end(1)
        return True

    def _kill_neighbours(self, ranks: Sequence[int]) -> None:
        """Ends silent ranks of this node; without a scheduler nobody else would.

        One that is stopped would else stay, and with it the job.
        """
        context = self._context
        for rank in ranks:
            process = context.processes[rank]
            is_here = context.hosts[rank] == context.hosts[context.rank] and rank != context.rank
            if is_here and process is not None and process.is_alive():
                log.error("Rank %d, process %d, is killed", rank, process.pid)
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

    def _report(self, blame: Blame) -> None:
        context, hosts = self._context, self._context.hosts
        phase, step, since_s = self._position
        own = shown_ranks([context.rank], dict(enumerate(hosts)))
        reason = (
            f"training does not move: {blame.reason}; {own} has been in '{phase}' after step "
            f"{step} for {time.monotonic() - since_s:.0f} s, "
            f"launch.train.stall_timeout_s={self._timeout_s:g} allows no more"
        )
        log.error("%s. Stacks of this process:\n%s", reason, _stacks())
        self._tell(reason, blamed({hosts[rank] for rank in blame.silent}, hosts), step)
        if context.is_first:  # the others still read in its store
            time.sleep(4 * self._interval_s)

    def _find_blame(self) -> Blame:
        """What the first rank to look into it has found; what this one finds, if it is the first.

        One that has found out ends, and would seem silent to the next.

        Raises:
            _Patience: nobody is to blame.
            StoreSilent: nothing can be found out.
        """
        ranks = range(self._context.world_size)
        first = self._look(ranks)
        for _ in range(3):  # its own signs go on: the others look at the same time
            time.sleep(self._interval_s)
            self._give_sign()
        for found in self._blames.read(ranks).values():
            return Blame(found["reason"], tuple(found["silent"]))
        second = self._look(ranks)
        blame = judge(first, second, self._context.hosts)
        others = (beat for rank, beat in second.items() if rank != self._context.rank)
        if not blame.silent and any(beat.phase == "outage" for beat in others):
            raise _Patience
        return blame

    def _blame_rank_0(self) -> Blame:
        """For a store that does not answer, as it lives in the process of rank 0.

        From here that being frozen looks like a network that is down. If it is there it knows
        better, and is first to record what it knows.
        """
        time.sleep(4 * self._interval_s)
        rank_0 = shown_ranks([0], dict(enumerate(self._context.hosts)))
        return Blame(f"no answer from {rank_0}, which is frozen, gone or cut off", (0,))

    def _look(self, ranks: range) -> dict[int, Beat]:
        return {rank: Beat(*note) for rank, note in self._beats.read(ranks).items()}


@contextmanager
def ended_after(limit_s: float, *, is_alone: bool = True) -> Iterator[None]:
    """Ends the process if it takes longer to get to where a ``Watchdog`` watches, or to leave.

    Args:
        limit_s: to get there.
        is_alone: whether nobody waits for this process. Else one that leaves with an error has to
            end soon, so that the others are ended too; what it holds of them might keep it.
    """
    wind_up(limit_s)
    try:
        yield
    except BaseException:
        if is_alone:
            faulthandler.cancel_dump_traceback_later()
        else:
            wind_up(LEAVE_LIMIT_S)
        raise
    faulthandler.cancel_dump_traceback_later()


def wind_up(limit_s: float) -> None:
    """Ends this process after ``limit_s``, whatever its threads do then, unless wound up again.

    Their stacks go to the error stream.
    """
    faulthandler.dump_traceback_later(limit_s, exit=True, file=_STDERR)


def _stacks() -> str:
    """Where every thread of this process is."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()
