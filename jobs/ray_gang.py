"""Gangs: processes of Ray that work at one task together, on one node or several.

A placement group holds what they take from before the first of them starts until the task has
ended. The task itself runs in a process that takes nothing of it, and calls them through a
``RayGang``.
"""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.job_failures import is_lost_connection, last_line
from sigma_pipeline.jobs.ray_calls import call
from sigma_pipeline.jobs.ray_cluster import import_ray
from sigma_pipeline.jobs.train_request import RankPlace

T = TypeVar("T")

_CAUSE_GRACE_S = 2.0
"""For Ray to tell of a death: the others may lose their connection to a process before that."""


class GangBroken(StageError):  # noqa: N818 - says what there is
    """A process of a gang is gone."""


class RayGang:
    """The processes of one task; see ``Gang``.

    Each call has fresh ones: DeepSpeed cannot work with the second process group of a process, and
    what failed leaves nothing behind.
    """

    def __init__(self, group: Any, limits: TaskLimits) -> None:
        """Starts nothing yet.

        Args:
            group: placement group, with a bundle for each process.
            limits: of the task.
        """
        self._group = group
        self._limits = limits
        self._ray = import_ray()

    @property
    def size(self) -> int:
        """See ``Gang``."""
        return self._limits.num_processes

    def run(self, function: Callable[..., T], *arguments: Any) -> list[T]:
        """See ``Gang``.

        Raises:
            GangBroken: a process died, or they lost each other.
        """
        members = [self._start(rank) for rank in range(self.size)]
        try:
            calls = self._call_all(members, function, arguments)
            return self._results(calls)
        finally:
            for member in members:
                self._ray.kill(member)

    def _start(self, rank: int) -> Any:
        in_bundle = self._ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
        limits = self._limits
        return (
            self._ray.remote(_Member)
            .options(
                num_cpus=limits.cpus,
                num_gpus=limits.gpus,
                memory=limits.memory_bytes or None,
                max_restarts=0,
                scheduling_strategy=in_bundle(self._group, rank),
            )
            .remote()
        )

    def _call_all(
        self, members: Sequence[Any], function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> list[Any]:
        try:
            meeting_point = self._ray.get(members[0].meeting_point.remote())
        except self._ray.exceptions.RayError as error:
            raise self._broken(0, error) from error
        calls = []
        for rank, member in enumerate(members):
            # Each sees its own GPU alone, which is the first one then.
            place = RankPlace(rank, self.size, 0, meeting_point)
            calls.append(member.call.remote(function, (place, *arguments), self._limits))
        return calls

    def _results(self, calls: Sequence[Any]) -> list[Any]:
        """Of all; or raises what went wrong first, as soon as anything has."""
        pending = list(calls)
        while pending:
            done, pending = self._ray.wait(pending)
            if (error := self._error(done[0])) is not None:
                self._raise_cause({done[0]: error}, pending, calls)
        results: list[Any] = self._ray.get(list(calls))
        return results

    def _raise_cause(
        self, errors: dict[Any, Exception], pending: Sequence[Any], calls: Sequence[Any]
    ) -> NoReturn:
        """Raises what another process had lost its connection for, where that comes to be known."""
        if pending and any(map(self._is_consequence, errors.values())):
            done, _ = self._ray.wait(pending, num_returns=len(pending), timeout=_CAUSE_GRACE_S)
            errors |= {one: error for one in done if (error := self._error(one)) is not None}
        failed = min(errors, key=lambda each: self._is_consequence(errors[each]))
        error, rank = errors[failed], calls.index(failed)
        cause = getattr(error, "cause", None)
        if not isinstance(cause, Exception) or self._is_consequence(error):
            raise self._broken(rank, error) from error
        raise cause from error

    def _error(self, call: Any) -> Exception | None:
        """Of a call that is done."""
        try:
            self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            found: Exception = error
            return found
        return None

    def _is_consequence(self, error: Exception) -> bool:
        is_raised = isinstance(error, self._ray.exceptions.RayTaskError)
        return is_raised and is_lost_connection(str(error))

    def _broken(self, rank: int, error: Exception) -> GangBroken:
        is_raised = isinstance(error, self._ray.exceptions.RayTaskError)
        what = "lost the others" if is_raised else "died"
        return GangBroken(
            f"process {rank} of the gang of {self.size} {what}: {last_line(str(error))}"
        )


class _Member:
    """One process of a gang, for one call."""

    def meeting_point(self) -> str:
        """Where all can find this process: on a port that was free just now."""
        address = import_ray().util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((address, 0))
            return f"tcp://{address}:{probe.getsockname()[1]}"

    def call(self, function: Callable[..., T], arguments: tuple[Any, ...], limits: TaskLimits) -> T:
        """What the function returns here."""
        os.environ.pop("SLURM_JOB_NODELIST", None)  # the gang's ranks are others than the job's
        result: T = call(function, arguments, limits)
        return result


def call_with_gang(
    function: Callable[..., None], arguments: tuple[Any, ...], limits: TaskLimits, group: Any
) -> None:
    """Runs a task in a process that takes nothing; its gang takes what it may."""
    gang = RayGang(group, limits)
    call(function, (*arguments, gang), replace(limits, cpus=0, gpus=0, gpu_memory_share=None))
