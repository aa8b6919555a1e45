"""When and where SLURM is to start a job again, with stand-ins for its commands."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sigma_pipeline.jobs.next_start import put_off, requeue
from sigma_pipeline.jobs.slurm import SlurmError

Scontrol = Callable[..., None]


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scontrol:
    """A job on two nodes, and the partition it runs in; each change is noted in ``calls``."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.chdir(tmp_path)

    def put(
        excluded: str = "n4",
        nodes: str = "n1:idle n2:mixed n3:allocated n4:idle~",
        body: str = "",
        view: str = "JobState=RUNNING",
    ) -> None:
        job = f"JobId=7 {view} Partition=low ExcNodeList={excluded} NumNodes=2"
        commands = {
            "scontrol": f"""[ "$1" = show ] && {{ echo "{job}"; exit; }}
echo "$*" >> calls
{body}""",
            "sinfo": f"echo '{nodes}' | tr ' :' '\\n '",
        }
        for name, text in commands.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)

    put()
    return put


def calls() -> list[str]:
    path = Path("calls")
    return path.read_text().splitlines() if path.exists() else []


def test_a_job_is_queued_before_anything_else_is_asked_for(scontrol: Scontrol) -> None:
    requeue("7", after_s=90, without=["n1"], always_without="n4")

    assert calls() == [
        "requeue 7",
        "update JobId=7 StartTime=now+90",
        "update JobId=7 ExcNodeList=n1,n4",
    ]


def test_a_job_that_slurm_has_queued_already_is_queued(scontrol: Scontrol) -> None:
    scontrol(body="echo 'Job is pending execution for job 7' >&2; exit 1")

    requeue("7", always_without="n4")

    assert calls() == ["requeue 7"]


def test_a_refusal_is_told(scontrol: Scontrol) -> None:
    scontrol(body="echo 'Access denied' >&2; exit 1")

    with pytest.raises(SlurmError, match="refused `scontrol requeue 7`: Access denied"):
        requeue("7")


def test_a_change_that_is_refused_only_warns(
    scontrol: Scontrol, caplog: pytest.LogCaptureFixture
) -> None:
    scontrol(body='[ "$1" = update ] && exit 1; exit 0')

    requeue("7", after_s=5)

    assert not put_off("7", after_s=5)
    assert "refused `scontrol update JobId=7 StartTime=now+5`" in caplog.text


@pytest.mark.parametrize(
    ("excluded", "nodes", "without", "expected"),
    [
        ("n4", "n1:idle n2:idle n3:idle n4:idle", ["n1"], "n1,n4"),
        # n1 is down, so that without n2 and n3, too, only n4 would be left
        ("n2,n4", "n1:down n2:idle n3:idle n4:idle n5:idle", ["n3"], "n3,n4"),
        ("n2,n4", "n1:idle* n2:drained n3:idle n4:idle n5:idle", ["n3"], "n4"),
        ("n2,n4", "n1:idle n2:idle n3:down n4:idle", [], "n4"),
        ("n4", "n1:idle n2:down n3:down n4:idle", [], None),
        ("n2,n4", "n1:idle n2:idle n3:idle n4:idle", [], None),
    ],
)
def test_nodes_left_out_before_are_used_again_where_too_few_work(
    scontrol: Scontrol, excluded: str, nodes: str, without: list[str], expected: str | None
) -> None:
    scontrol(excluded, nodes)

    put_off("7", without=without, always_without="n4")

    assert calls() == ([f"update JobId=7 ExcNodeList={expected}"] if expected else [])
