"""Items prepared by a process that they may bring down: one at a time, so that the culprit shows.

Units come here after a worker died over them, or met what may pass. A process that dies is
replaced, and what had passed through it before is told apart from what it died of: a verdict needs
a process that had seen nothing else.
"""

import multiprocessing
import signal
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NoReturn, Self

from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.sample import Sample, SampleSettings
from sigma_pipeline.data_prep.verdicts import Rejected
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.shard_limits import cpu_limit_s, name_of_signal, prepare_limited
from sigma_pipeline.jobs.shard_link import WorkerEnds, begin_worker

_TRIES = 3
"""At what may pass."""


class _Ended(Exception):  # noqa: N818 - says what happened to a process
    """A signal, whose number it carries, ended the process."""


class Apart:
    """A process that prepares one item at a time, begun when it is needed."""

    def __init__(self, ends: WorkerEnds) -> None:
        self._ends = ends
        self._process: BaseProcess | None = None
        self._channel: Connection | None = None

    def __enter__(self) -> Self:
        """This object itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self._end()

    def prepare(self, item: Item, settings: SampleSettings) -> Sample:
        """``samples.prepare`` in the process apart, tried again where that may help.

        Raises:
            Rejected: the item cannot become a sample; ``is_retryable`` if that may pass, although
                it did not while it was tried here.
            StageError: the source changed, or the process ends by an error of its own.
        """
        for attempt in range(1, _TRIES + 1):
            is_fresh = self._process is None
            try:
                return self._ask(item, settings)
            except Rejected as verdict:
                if attempt == _TRIES or not verdict.is_retryable:
                    raise
            except MemoryError as error:
                if is_fresh:
                    detail = f"needs more memory than memory_gib={settings.limits.memory_gib:g}"
                    raise Rejected("too_large", detail) from error
            except _Ended as error:
                if is_fresh:
                    detail = f"decoding it ended the process by {name_of_signal(error.args[0])}"
                    raise Rejected("crashed_decoder", detail) from error
            self._end()
        raise AssertionError("the last process is a fresh one, of which every end is a verdict")

    def _ask(self, item: Item, settings: SampleSettings) -> Sample:
        channel = self._channel or self._start()
        try:
            channel.send((item, settings))
            outcome: Sample | Exception = channel.recv()
        except (EOFError, OSError) as error:
            self._explain_end(item, settings, error)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _explain_end(self, item: Item, settings: SampleSettings, error: Exception) -> NoReturn:
        """Raises what the process's end means."""
        assert self._process is not None
        self._process.join()
        status = self._process.exitcode or 0
        self._end()
        if status >= 0:
            raise StageError(
                f"a worker process of the shard stage ended with status {status}; the reason is "
                "in the output above"
            ) from error
        if status == -signal.SIGXCPU:
            limit_s = cpu_limit_s(item, settings.limits)
            raise Rejected("too_slow", f"took more than {limit_s} s of processor time") from error
        if status == -signal.SIGKILL:
            detail = "its process was killed from outside, perhaps for want of memory"
            raise Rejected("crashed_decoder", detail, is_retryable=True) from error
        raise _Ended(-status) from error

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(self._ends, there), daemon=True)
        process.start()
        there.close()  # so that the process's end closes it
        self._process, self._channel = process, here
        return here

    def _end(self) -> None:
        if self._process and self._channel:
            self._channel.close()
            self._process.join()
        self._process = self._channel = None


def _serve(ends: WorkerEnds, channel: Connection) -> None:
    """Runs in the process: answers one item after another until the channel is closed."""
    begin_worker(ends)
    while True:
        try:
            item, settings = channel.recv()
        except EOFError:
            return
        try:
            outcome: Sample | Exception = prepare_limited(item, settings)
        except (Rejected, StageError) as error:
            outcome = error
        except MemoryError:
            outcome = MemoryError()  # libav's own does not survive pickling
        channel.send(outcome)
