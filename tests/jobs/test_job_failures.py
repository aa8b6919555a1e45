"""What is made of the tracebacks that a job left."""

from pathlib import Path

import pytest

from sigma_pipeline.infra.errors import MissingInputError
from sigma_pipeline.jobs.job_failures import find_our_error, is_lost_connection, last_line

LOG = Path("/logs/0_log.err")


def test_the_error_of_a_rank_is_found_among_the_lost_connections() -> None:
    lost = "Traceback\nRuntimeError: Connection closed by peer\n\n----------------------\nlogs"
    cause = (
        "Traceback\n  raise MissingInputError(\n"
        "sigma_pipeline.infra.errors.MissingInputError: dataset 'd' is not there; make it\n"
        "\n----------------------\nYou can check full logs"
    )

    error = find_our_error([lost, cause], LOG)

    assert isinstance(error, MissingInputError)
    assert str(error) == f"dataset 'd' is not there; make it (log: {LOG})"


def test_errors_of_others_are_not_taken_for_ours() -> None:
    trace = "Traceback:\n  File x\nRuntimeError: Connection closed by peer\n"

    assert find_our_error([trace], LOG) is None


def test_the_last_line_of_a_failure_is_that_of_its_traceback() -> None:
    rule = "\n----------------------\n"
    failure = f"Job (task=0) failed during processing with trace:{rule}Traceback\nValueError: no\n"
    silent = "Job 5 (task: 0)\nhas not produced any output (state: OUT_OF_MEMORY)"

    assert last_line(failure + rule + "You can check full logs") == "ValueError: no"
    assert last_line(silent) == "has not produced any output (state: OUT_OF_MEMORY)"


@pytest.mark.parametrize(
    ("said", "is_lost"),
    [
        ("[/g/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:39", True),
        ("Application timeout caused pair closure, in gloo/transport/tcp/unbound_buffer.cc", True),
        ("NCCL error: remote process exited or there was a network error", True),
        (
            "NCCL error in: ProcessGroupNCCL.cpp:94, remote process exited, NCCL version 2.27\n"
            "ncclRemoteError: A call failed possibly due to a network error\nLast error:\n"
            "socketProgress: Connection closed by remote peer node7<41234>",
            True,
        ),
        ("shapes (3, 4) and (4, 3) do not fit", False),
    ],
)
def test_a_lost_connection_is_told_from_a_cause(said: str, is_lost: bool) -> None:
    rule = "\n----------------------\n"
    failure = (
        f"Job (task=0) failed during processing with trace:{rule}Traceback\nRuntimeError: {said}"
    )

    assert is_lost_connection(failure) is is_lost
