"""When, and on which nodes, SLURM starts a job the next time."""

import logging
from collections.abc import Iterable

from sigma_pipeline.jobs.node_names import expand_nodes
from sigma_pipeline.jobs.slurm import SlurmError, ask_slurm, job_view

log = logging.getLogger(__name__)

_ALREADY_QUEUED = "Job is pending execution"
_USABLE = frozenset({"idle", "mixed", "allocated", "completing", "planned", "reserved"})
_MARKS = "~#!%$@^-"
"""SLURM appends one to a node's state: asleep, waking, ...; ``*``, it does not answer, is none."""


def requeue(
    job_id: str, *, after_s: float = 0, without: Iterable[str] = (), always_without: str = ""
) -> None:
    """Ends a job, this one too, and lets SLURM start it again; its processes must ignore SIGTERM.

    A plain requeue comes first: SLURM kills the batch script that asks for its own after KillWait,
    and a job that was put on hold before might stay so for ever.

    Args:
        job_id: of a job that runs, or that SLURM is ending.
        after_s: wait before it may start.
        without: nodes not to be used any more; see ``put_off``.
        always_without: what a person has left out.

    Raises:
        SlurmError: SLURM does not queue it again. What else fails only warns.
    """
    changes = _changes(job_id, after_s, without, always_without)
    try:
        ask_slurm("scontrol", "requeue", job_id)
    except SlurmError as error:
        if _ALREADY_QUEUED not in str(error):
            raise
        log.info("SLURM has queued job %s again by itself", job_id)
    _apply(job_id, changes)


def put_off(
    job_id: str, *, after_s: float = 0, without: Iterable[str] = (), always_without: str = ""
) -> bool:
    """Changes a job that waits; whether SLURM allowed all of it.

    Args:
        job_id: of the job.
        after_s: wait before it may start.
        without: nodes not to be used any more, beside those left out before. Where too few usable
            ones would remain, those left out before are used again, and if need be these too.
        always_without: what a person has left out, as SLURM lists nodes; stays left out.
    """
    return _apply(job_id, _changes(job_id, after_s, without, always_without))


def _changes(job_id: str, after_s: float, without: Iterable[str], always_without: str) -> list[str]:
    excluded = _exclusion(job_id, set(without), set(expand_nodes(always_without)))
    changes = [f"StartTime=now+{round(after_s)}"] if after_s > 0 else []
    return changes + ([f"ExcNodeList={excluded}"] if excluded is not None else [])


def _apply(job_id: str, changes: Iterable[str]) -> bool:
    is_allowed = True
    for change in changes:
        try:
            ask_slurm("scontrol", "update", f"JobId={job_id}", change)
        except SlurmError as error:
            log.warning("%s", error)
            is_allowed = False
    return is_allowed


def _exclusion(job_id: str, without: set[str], always: set[str]) -> str | None:
    """What the job's ExcNodeList is to be; None where it is to stay."""
    try:
        view = job_view(job_id)
        if view is None:
            return None
        before = set(expand_nodes(view.excluded))
        if not (without or before - always):
            return None
        usable = _usable_nodes(view.partition)
    except SlurmError as error:
        log.warning("%s; no other nodes are left out than before", error)
        return None
    wanted = before | without
    choices = (wanted, always | without)
    chosen = next((one for one in choices if len(usable - one) >= view.num_nodes), always)
    if chosen != wanted:
        log.warning(
            "without %s partition %s has fewer usable nodes than the %d of job %s, so %s may be "
            "used again",
            ",".join(sorted(wanted)),
            view.partition,
            view.num_nodes,
            job_id,
            ",".join(sorted(wanted - chosen)),
        )
    return None if chosen == before else ",".join(sorted(chosen))


def _usable_nodes(partition: str) -> set[str]:
    """Those that work, whoever uses them now."""
    listed = ask_slurm(
        "sinfo", "--noheader", "--Node", f"--partition={partition}", "--format=%N %T"
    )
    pairs = (line.split() for line in listed.splitlines())
    return {pair[0] for pair in pairs if len(pair) == 2 and pair[1].rstrip(_MARKS) in _USABLE}
