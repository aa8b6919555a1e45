"""What SLURM says of jobs, and what it is told, with stand-ins for its commands."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sigma_pipeline.jobs import slurm
from sigma_pipeline.jobs.slurm import (
    JobView,
    SlurmError,
    job_view,
    job_views,
    queued_jobs,
)

# As SLURM 22.05 printed them, with what is not read left out.
RUNNING = (
    "JobId=144 JobName=na me Restarts=7 UserId=root(0) GroupId=root(0) JobState=RUNNING "
    "Reason=None Dependency=(null) Requeue=1 Restarts=1 BatchFlag=1 ExitCode=0:0 "
    "SubmitTime=2026-11-23T02:05:41 EligibleTime=2026-11-23T02:05:41 "
    "StartTime=2026-11-23T02:05:42 EndTime=2026-11-23T02:10:42 Deadline=N/A "
    "PreemptEligibleTime=2026-11-23T02:05:42 PreemptTime=None Partition=low "
    "ReqNodeList=(null) ExcNodeList=n[3-4] NodeList=n[1-2] BatchHost=n1 NumNodes=2 NumCPUs=2 "
    "ReqB:S:C:T=0:0:*:* TRES=cpu=2,node=2,billing=2 Command=/x/a.sbatch 60 JobState=FAILED "
    "WorkDir=/x Comment=a NodeList=n9  StdErr=/x/144.out Power= "
)
TIMED_OUT = (
    "JobId=151 JobName=t UserId=root(0) JobState=COMPLETING Reason=TimeLimit Restarts=0 "
    "StartTime=2026-11-23T02:06:27 EndTime=2026-11-23T02:07:34 Partition=main "
    "ExcNodeList=(null) NodeList=n1 NumNodes=1"
)
ARRAY = """\
JobId=145 ArrayJobId=145 ArrayTaskId=2-3%2 ArrayTaskThrottle=2 JobName=x UserId=root(0) \
JobState=PENDING Reason=JobArrayTaskLimit Restarts=0 StartTime=Unknown EndTime=Unknown NodeList= \
NumNodes=1-2
JobId=149 ArrayJobId=145 ArrayTaskId=1 JobName=x UserId=root(0) JobState=RUNNING Reason=None \
Restarts=0 NodeList=n1 NumNodes=1
"""

FakeCommand = Callable[[str, str], None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCommand:
    """Puts a shell script in place of a command."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.chdir(tmp_path)

    def put(name: str, body: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    for name in ("scontrol", "sacct", "sinfo"):
        put(name, "exit 1")
    return put


def prints(text: str) -> str:
    return f"cat <<'END'\n{text}\nEND"


def test_a_job_is_read_whatever_its_name_and_comment_hold() -> None:
    view = JobView.from_scontrol(RUNNING)

    assert view == JobView(
        job_id="144",
        name="na me Restarts=7",
        state="RUNNING",
        restarts=1,
        exit_code="0:0",
        submit_time_s=time.mktime((2026, 11, 23, 2, 5, 41, 0, 0, -1)),
        start_time_s=time.mktime((2026, 11, 23, 2, 5, 42, 0, 0, -1)),
        end_time_s=time.mktime((2026, 11, 23, 2, 10, 42, 0, 0, -1)),
        nodes="n[1-2]",
        num_nodes=2,
        excluded="n[3-4]",
        partition="low",
    )
    assert view.is_running


def test_a_job_that_is_ended_by_its_time_limit_says_so() -> None:
    view = JobView.from_scontrol(TIMED_OUT)

    assert not view.is_running
    assert view.reason == "TimeLimit"


def test_tasks_of_an_array_are_told_apart(fake: FakeCommand) -> None:
    fake("scontrol", prints(ARRAY))

    views = job_views("145")

    assert [(v.job_id, v.state, v.num_nodes) for v in views] == [
        ("145_[2-3]", "PENDING", 1),
        ("145_1", "RUNNING", 1),
    ]
    assert job_view("145_1") == views[1]
    assert views[0].end_time_s is None


def test_a_job_that_the_controller_has_forgotten_is_looked_up_in_the_accounts(
    fake: FakeCommand,
) -> None:
    fake("scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    fake(
        "sacct", prints("JobID|JobName|State|NodeList|End\n7|tiny|CANCELLED by 1000|n[1-2]|Unknown")
    )

    assert job_view("7") == JobView(job_id="7", name="tiny", state="CANCELLED", nodes="n[1-2]")


def test_a_job_that_nobody_knows_is_none(fake: FakeCommand) -> None:
    fake("scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    fake("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")

    assert job_view("7") is None


def test_a_refusal_is_passed_on_in_slurms_own_words(fake: FakeCommand) -> None:
    fake("scancel", "echo 'Access/permission denied for job 7' >&2; exit 1")

    with pytest.raises(SlurmError, match=r"refused `scancel 7`: Access/permission denied"):
        slurm.cancel("7")


def test_a_controller_that_does_not_answer_is_given_up(
    fake: FakeCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "COMMAND_TIMEOUT_S", 0.2)
    fake("scontrol", "exec sleep 5")

    with pytest.raises(SlurmError, match="did not answer `scontrol show job --oneliner 7`"):
        job_view("7")


def test_where_slurm_is_not_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert not slurm.slurm_is_here()
    with pytest.raises(SlurmError, match="scancel is not on the PATH"):
        slurm.cancel("7")


def test_times_are_printed_as_they_are_read(
    fake: FakeCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    fake("scontrol", 'test "$SLURM_TIME_FORMAT" = standard && echo "JobId=7 JobState=RUNNING"')

    assert job_view("7") is not None


def test_the_queue_names_an_array_once(fake: FakeCommand) -> None:
    fake("squeue", 'test "$*" = "--noheader --format=%F" && printf "12\\n145\\n145\\n"')

    assert queued_jobs() == {"12", "145"}
