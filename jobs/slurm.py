"""The one door to SLURM's commands: what it knows of a job, and what it is asked to do with it.

Needs neither submitit nor PyTorch, so that a batch script can use it. Every command has a time
limit: a controller that is busy or down must not hold a job.
"""

import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from sigma_pipeline.infra.errors import StageError

log = logging.getLogger(__name__)

COMMAND_TIMEOUT_S = 30.0
_CLOCK = "%Y-%m-%dT%H:%M:%S"
_TIMES_AS_READ_HERE = {"SLURM_TIME_FORMAT": "standard"}
"""People set others for themselves."""
_UNKNOWN_JOB = "Invalid job id"
_ALIVE = frozenset(
    {"RUNNING", "CONFIGURING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"}
)
_NAME = re.compile(r" JobName=(.*?)(?= UserId=)")
_SACCT_COLUMNS = "JobID,JobName,State,NodeList,ExitCode,Submit,Start,End"


class SlurmError(StageError):
    """A command of SLURM failed, or did not answer in time."""


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job, or tasks of an array, as SLURM sees it now."""

    job_id: str
    """``12``, ``12_3`` of an array; ``12_[4-7]`` of those of its tasks that wait."""
    name: str = ""
    """As it was submitted under; empty where SLURM does not say."""
    state: str
    """SLURM's word: PENDING, RUNNING, COMPLETING (it is being ended), COMPLETED, FAILED, ..."""
    reason: str = ""
    """Why it waits, or has ended: Priority, BeginTime, TimeLimit, ..."""
    restarts: int = 0
    """Counted up as soon as SLURM is to start it again, while its processes are still ended."""
    exit_code: str = ""
    """``status:signal`` of the batch script."""
    submit_time_s: float | None = None
    """This and the others: seconds since 1970."""
    start_time_s: float | None = None
    end_time_s: float | None = None
    """When it has ended; while it runs, when its time limit will end it."""
    preempt_time_s: float | None = None
    """When SLURM began to take its nodes away for another job."""
    nodes: str = ""
    num_nodes: int = 0
    excluded: str = ""
    partition: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it has nodes and nobody is ending it."""
        return self.state in _ALIVE

    def is_cancelled(self, restarts: int) -> bool:
        """Whether somebody has ended it with scancel: SLURM has no other reason to end it.

        Args:
            restarts: when the attempt in question began; more, and SLURM starts it again.
        """
        return (
            not (self.is_running or self.reason)
            and self.restarts == restarts
            and self.preempt_time_s is None
        )

    @classmethod
    def from_scontrol(cls, line: str) -> Self:
        """Of a line of ``scontrol show job --oneliner``."""
        facts = _words(line)
        name = _NAME.search(line)
        return cls(
            job_id=_shown_id(facts),
            name=name[1] if name else "",
            state=facts.get("JobState", ""),
            reason=_text(facts, "Reason"),
            restarts=int(facts.get("Restarts", 0)),
            exit_code=facts.get("ExitCode", ""),
            submit_time_s=_seconds(facts, "SubmitTime"),
            start_time_s=_seconds(facts, "StartTime"),
            end_time_s=_seconds(facts, "EndTime"),
            preempt_time_s=_seconds(facts, "PreemptTime"),
            nodes=_text(facts, "NodeList"),
            num_nodes=int(facts.get("NumNodes", "0").partition("-")[0]),
            excluded=_text(facts, "ExcNodeList"),
            partition=facts.get("Partition", ""),
        )

    @classmethod
    def from_sacct(cls, facts: Mapping[str, str]) -> Self:
        """Of a line of ``sacct --parsable2``, by column."""
        return cls(
            job_id=facts["JobID"],
            name=facts.get("JobName", ""),
            state=(facts["State"].split() or [""])[0],  # "CANCELLED by 1000"
            exit_code=facts.get("ExitCode", ""),
            submit_time_s=_seconds(facts, "Submit"),
            start_time_s=_seconds(facts, "Start"),
            end_time_s=_seconds(facts, "End"),
            nodes=facts.get("NodeList", ""),
        )


def slurm_is_here() -> bool:
    """Whether this machine has SLURM's commands."""
    return shutil.which("scontrol") is not None


def job_view(job_id: str) -> JobView | None:
    """The job as SLURM sees it; None where SLURM knows no such job.

    Raises:
        SlurmError: SLURM does not answer.
    """
    views = job_views(job_id)
    return next((view for view in views if view.job_id == job_id), views[0] if views else None)


def job_views(job_id: str) -> list[JobView]:
    """The job, or each task of an array; asks the accounting where the controller has forgotten.

    Raises:
        SlurmError: SLURM does not answer.
    """
    try:
        lines = ask_slurm("scontrol", "show", "job", "--oneliner", job_id).splitlines()
    except SlurmError as error:
        if _UNKNOWN_JOB not in str(error):
            raise
        return _accounted(job_id)
    return [JobView.from_scontrol(line) for line in lines if line.strip()]


def queued_jobs() -> set[str]:
    """Numbers of all jobs that wait or run, anybody's; of an array, that of the whole.

    Raises:
        SlurmError: SLURM does not answer.
    """
    return set(ask_slurm("squeue", "--noheader", "--format=%F").split())


def cancel(job_id: str) -> None:
    """Ends a job, or takes it out of the queue.

    Raises:
        SlurmError: SLURM does not; says why.
    """
    ask_slurm("scancel", job_id)


def signal_job(job_id: str, name: str, *, with_script: bool = False) -> None:
    """Sends a signal (``TERM``, ``USR2``) to all processes of a job; or to its batch script, too.

    Raises:
        SlurmError: SLURM does not; says why.
    """
    ask_slurm("scancel", *(["--full"] if with_script else []), f"--signal={name}", job_id)


def ask_slurm(*command: str) -> str:
    """What one of SLURM's commands prints.

    Raises:
        SlurmError: it fails or takes too long; in its own words.
    """
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            env=os.environ | _TIMES_AS_READ_HERE,
        )
    except FileNotFoundError as error:
        raise SlurmError(
            f"{command[0]} is not on the PATH; run it where SLURM's commands are"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(
            f"SLURM did not answer `{shown}` within {COMMAND_TIMEOUT_S:.0f} s; see `scontrol ping`"
        ) from error
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise SlurmError(f"SLURM refused `{shown}`: {said or f'status {done.returncode}'}")
    return done.stdout


def _accounted(job_id: str) -> list[JobView]:
    try:
        text = ask_slurm("sacct", "-X", "--parsable2", "-j", job_id, "-o", _SACCT_COLUMNS)
    except SlurmError as error:  # many sites keep no accounts
        log.debug("%s", error)
        return []
    header, *lines = text.splitlines() or [""]
    columns = header.split("|")
    rows = (dict(zip(columns, line.split("|"), strict=False)) for line in lines)
    return [JobView.from_sacct(row) for row in rows]


def _words(line: str) -> dict[str, str]:
    """``KEY=VALUE`` words. Spaces are possible in the job's name and in the last fields alone."""
    facts: dict[str, str] = {}
    for word in _NAME.sub("", line, count=1).split():
        key, is_pair, value = word.partition("=")
        if is_pair:
            facts.setdefault(key, value)
    return facts


def _shown_id(facts: Mapping[str, str]) -> str:
    if "ArrayTaskId" not in facts:
        return facts.get("JobId", "")
    tasks = facts["ArrayTaskId"].partition("%")[0]
    return f"{facts['ArrayJobId']}_{tasks if tasks.isdigit() else f'[{tasks}]'}"


def _text(facts: Mapping[str, str], key: str) -> str:
    value = facts.get(key, "")
    return "" if value in ("(null)", "None") else value


def _seconds(facts: Mapping[str, str], key: str) -> float | None:
    """SLURM writes local times, or a word where there is none."""
    try:
        return time.mktime(time.strptime(facts.get(key, ""), _CLOCK))
    except ValueError:
        return None
