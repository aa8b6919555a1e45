"""Sharding a dataset by a SLURM array, followed from the launcher."""

import logging
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sigma_pipeline.data_prep.config import ShardConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.manifest import Manifest, read_manifest
from sigma_pipeline.data_prep.receipts import receipt_key
from sigma_pipeline.infra.errors import Interrupted, PipelineError, StageError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.config import LaunchConfig
from sigma_pipeline.jobs.executor import Resources, executor_parameters
from sigma_pipeline.jobs.job_failures import find_our_error, last_line
from sigma_pipeline.jobs.shard import finish_dataset, missing_units, remove_dataset
from sigma_pipeline.jobs.shard_array import ArrayTask
from sigma_pipeline.jobs.shard_plan import DatasetPlan
from sigma_pipeline.jobs.stored_plan import store_plan, stored_plan
from sigma_pipeline.jobs.submission import Snapshot, Submission, job_name, record_submission
from sigma_pipeline.jobs.submit import uninterrupted
from sigma_pipeline.jobs.submit_array import (
    ENDED,
    ArrayJob,
    submit_array,
    submitted_array,
)

log = logging.getLogger(__name__)

_TAR_KEY = re.compile(r"/shard-(\d+)\.[^/]+\.tar$")
_LOG_INTERVAL_S = 10.0
_LONGEST_PAUSE_S = 10.0
_ENDS_TOLD = 4
_SETTLE_S = 20.0
"""SLURM may start a task again shortly after its node has failed."""
_MAY_RETURN = frozenset({"BOOT_FAIL", "NODE_FAIL", "PREEMPTED"})
_OUTSIDE = _MAY_RETURN | {"CANCELLED", "COMPLETED", "DEADLINE", "TIMEOUT"}
"""Ends that say nothing against running again."""


def shard_on_slurm(
    plan: DatasetPlan,
    *,
    storage: Storage,
    shard: ShardConfig,
    snapshot: Snapshot,
    journal: Journal | None,
    attempt: str,
    force: bool,
) -> dict[str, Manifest]:
    """Does what ``shard_dataset`` does, by an array of tasks on SLURM; waits for its end.

    Args:
        plan: of the dataset; its source must be readable on the nodes.
        storage: reachable from the nodes.
        shard: for the fraction of inputs that may be rejected, where the dataset has none.
        snapshot: what the tasks run from, and with which resources.
        journal: gets the numbers, if there is one.
        attempt: the name of this life of the launcher.
        force: first delete what is there.

    Raises:
        Interrupted: tasks were ended from outside before all shards were there.
        PipelineError: what a task failed of; or too many inputs were rejected, or none was left.
    """
    if force:
        remove_dataset(plan, storage)
    if missing_units(plan, storage):
        folder = _array_folder(snapshot, plan)
        with stored_plan(plan, folder) as stored:
            calls = _calls(stored, storage, shard, snapshot.launch, folder)
            parameters = array_parameters(snapshot, len(calls), plan.name)
            with submitted_array(calls, snapshot.launch, folder, parameters) as array:
                _note(snapshot, plan, array, calls)
                _Watch(plan, storage, array, len(calls)).wait()
    manifests = finish_dataset(plan, storage=storage, shard=shard, journal=journal, attempt=attempt)
    for ref in plan.refs.values():
        _remove_late_tars(storage, ref)
    return manifests


def submit_shards(
    plan: DatasetPlan, *, storage: Storage, shard: ShardConfig, snapshot: Snapshot, force: bool
) -> Submission | None:
    """Hands an array to SLURM that makes the dataset with nobody looking; None if it is there.

    Its plan stays in the work_dir, as nobody knows when the last task has read it.

    Args:
        plan: see ``shard_on_slurm``, as for the others.
        storage: reachable from the nodes.
        shard: for the fraction of inputs that may be rejected, where the dataset has none.
        snapshot: what the tasks run from, and with which resources.
        force: first delete what is there.

    Raises:
        StageError: SLURM did not take the array.
    """
    if force:
        remove_dataset(plan, storage)
    if all(read_manifest(storage, ref) for ref in plan.refs.values()):
        return None
    folder = _array_folder(snapshot, plan)
    stored = store_plan(plan, folder)
    calls = [
        replace(call, run_name=snapshot.run_name)
        for call in _calls(stored, storage, shard, snapshot.launch, folder)
    ]
    parameters = array_parameters(snapshot, len(calls), plan.name)
    with uninterrupted():
        array = submit_array(calls, snapshot.launch, folder, parameters)
        return _note(snapshot, plan, array, calls)


def _array_folder(snapshot: Snapshot, plan: DatasetPlan) -> Path:
    return snapshot.work_dir / "submitit" / f"shard-{plan.name}" / new_attempt()


def _calls(
    plan: DatasetPlan, storage: Storage, shard: ShardConfig, launch: LaunchConfig, folder: Path
) -> list[ArrayTask]:
    """At least one, which puts the manifests where only those are missing."""
    count = max(1, min(launch.shard.tasks, len(missing_units(plan, storage))))
    return [
        ArrayTask(plan, storage.root_uri, shard, launch.shard.workers, number, count, folder)
        for number in range(count)
    ]


def _note(
    snapshot: Snapshot, plan: DatasetPlan, array: ArrayJob[None], calls: Sequence[ArrayTask]
) -> Submission:
    """Writes down that an array was submitted."""
    log.info(
        "%s: SLURM array %s of %d tasks with %d workers each makes %d shards; logs: %s",
        *(plan.name, array.job_id, len(calls), calls[0].workers),
        sum(len(split.units) for split in plan.splits),
        calls[0].folder,
    )
    return record_submission(
        snapshot, "shard", array.job_id, calls[0].folder, world_size=len(calls)
    )


def _remove_late_tars(storage: Storage, ref: DatasetRef) -> None:
    """Deletes tars that lost a race but were put after the manifest, by tasks ended just then."""
    tars: dict[int, list[str]] = {}
    for key in storage.list(ref.prefix):
        if match := _TAR_KEY.search(key):
            tars.setdefault(int(match[1]), []).append(key)
    for number, keys in tars.items():
        if len(keys) > 1:
            counting = read_json(storage, receipt_key(ref, number))["tar"]
            for key in keys:
                if not key.endswith(f"/{counting}"):
                    storage.delete(key)


def array_resources(launch: LaunchConfig) -> Resources:
    """Of one task."""
    shard = launch.shard
    return Resources(
        cpus_per_task=shard.cpus_per_task or shard.workers,
        memory_gib=shard.memory_gib,
        timeout_min=shard.timeout_min,
    )


def array_parameters(snapshot: Snapshot, count: int, dataset: str) -> Mapping[str, Any]:
    """What submitit is told of an array of ``count`` tasks; all may run at once."""
    parameters = executor_parameters(
        snapshot.launch,
        array_resources(snapshot.launch),
        name=f"{job_name(snapshot.run_name, 'shard')}-{dataset}",
        code=snapshot.code,
    )
    return parameters | {"slurm_array_parallelism": count}


class _Watch:
    """Follows an array until all is made, or nobody makes anything any more."""

    def __init__(
        self, plan: DatasetPlan, storage: Storage, array: ArrayJob[None], count: int
    ) -> None:
        self._plan, self._storage, self._array = plan, storage, array
        self._states = ["PENDING"] * count
        self._num_shards = sum(len(split.units) for split in plan.splits)
        self._start_s = self._logged_s = time.monotonic()
        self._ended_s: float | None = None

    def wait(self) -> None:
        """Returns when all manifests are there, or all that they need.

        Raises:
            PipelineError: the tasks have ended, and shards are missing.
        """
        has_ended = False
        while not (has_ended or self._is_complete()):
            self._look_at_tasks()
            has_ended = self._has_ended()
            num_missing = len(missing_units(self._plan, self._storage))
            if has_ended and num_missing:
                raise self._failure(num_missing)
            self._log_if_due(num_missing)
            time.sleep(0 if has_ended else min(_LONGEST_PAUSE_S, 0.5 + self._elapsed_s / 10))
        log.info("%s: all shards are there after %.0f s", self._plan.name, self._elapsed_s)

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._start_s

    def _is_complete(self) -> bool:
        return all(read_manifest(self._storage, ref) for ref in self._plan.refs.values())

    def _look_at_tasks(self) -> None:
        """Takes note of the states of tasks, and tells of those that ended too early."""
        before, self._states = self._states, self._array.states()
        for task, state in enumerate(self._states):
            if state in ENDED - {"COMPLETED"} and state != before[task]:
                log.warning(
                    "%s: task %d of the array ended with %s; log: %s",
                    *(self._plan.name, task, state, self._array.log_path(task)),
                )

    def _has_ended(self) -> bool:
        """Whether no task runs, and none will."""
        if not set(self._states) <= ENDED:
            self._ended_s = None
            return False
        now_s = time.monotonic()
        self._ended_s = self._ended_s or now_s
        return not _MAY_RETURN & set(self._states) or now_s - self._ended_s > _SETTLE_S

    def _log_if_due(self, num_missing: int) -> None:
        now_s = time.monotonic()
        if now_s - self._logged_s < _LOG_INTERVAL_S:
            return
        self._logged_s = now_s
        counts = Counter(state.lower() for state in self._states)
        log.info(
            "%s: %d of %d shards after %.0f s; tasks: %s",
            self._plan.name,
            self._num_shards - num_missing,
            self._num_shards,
            now_s - self._start_s,
            ", ".join(f"{count} {state}" for state, count in counts.most_common()),
        )

    def _failure(self, num_missing: int) -> PipelineError:
        """Why shards are missing."""
        ends = []
        for task, state in enumerate(self._states):
            failure, log_path = self._array.failure(task), self._array.log_path(task)
            if failure and (error := find_our_error([failure], log_path)):
                return error
            if state != "COMPLETED":
                reason = f": {last_line(failure)}" if failure else ""
                ends.append(f"task {task} {state}{reason} (log: {log_path})")
        more = [f"{len(ends) - _ENDS_TOLD} more"] if len(ends) > _ENDS_TOLD else []
        told = "; ".join(ends[:_ENDS_TOLD] + more)
        kind = Interrupted if set(self._states) <= _OUTSIDE else StageError
        return kind(
            f"dataset {self._plan.name!r}: {num_missing} of {self._num_shards} shards are missing, "
            f"as tasks of SLURM array {self._array.job_id} ended too early: {told}. "
            "The same command goes on from here"
        )
