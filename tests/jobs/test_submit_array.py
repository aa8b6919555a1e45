"""What is known of a job array."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import submitit

from sigma_pipeline.jobs.submit_array import ArrayJob


@pytest.fixture
def sacct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a ``sacct`` on the PATH that gives these lines."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def put(lines: str) -> None:
        program = tmp_path / "sacct"
        program.write_text(f"#!/bin/sh\ncat <<'END'\nJobID|State|NodeList\n{lines}\nEND\n")
        program.chmod(0o755)

    return put


def test_states_are_those_of_slurm_at_each_look(
    tmp_path: Path, sacct: Callable[[str], None]
) -> None:
    jobs = [submitit.SlurmJob(tmp_path, f"7_{task}") for task in range(4)]
    array: ArrayJob[None] = ArrayJob(jobs)
    jobs[3].paths.result_pickle.write_bytes(pickle.dumps(("error", "Traceback\nValueError: no")))

    sacct("7_0|NODE_FAIL|n1\n7_1|CANCELLED by 0|n2\n7_[2]|PENDING|")
    first = array.states()
    sacct("7_0|RUNNING|n3\n7_1|CANCELLED by 0|n2\n7_2|COMPLETED|n4")
    second = array.states()

    assert array.job_id == "7"
    assert first == ["NODE_FAIL", "CANCELLED", "PENDING", "FAILED"]
    assert second == ["RUNNING", "CANCELLED", "COMPLETED", "FAILED"]
    assert [array.failure(task) is not None for task in range(4)] == [False, False, False, True]
