"""What is made of the tracebacks that processes of a job left."""

import re
from collections.abc import Iterable
from pathlib import Path

from sigma_pipeline.infra import errors
from sigma_pipeline.infra.errors import PipelineError, StageError

_OUR_ERROR = re.compile(r"^sigma_pipeline\.infra\.errors\.(\w+): (.+)", re.MULTILINE | re.DOTALL)
_LOST_CONNECTION = re.compile(
    r"gloo/transport|ncclRemoteError|Connection (closed|reset) by peer|remote process exited"
    r"|TCPStore.*Broken pipe"
)
"""Of gloo, NCCL (``ncclRemoteError``) and torch's store, when the other process is gone."""
_RULE = "\n----------------------\n"
"""What submitit puts around a traceback."""


def find_our_error(failures: Iterable[str], log_path: Path) -> PipelineError | None:
    """The error of ours that a process raised, out of the tracebacks of all.

    When one rank fails the others lose the connection to it; theirs are not the cause.
    """
    for failure in failures:
        if match := _OUR_ERROR.search(failure):
            kind = getattr(errors, match[1], StageError)
            message = match[2].partition("\n-----")[0].strip()
            error: PipelineError = kind(f"{message} (log: {log_path})")
            return error
    return None


def is_lost_connection(failure: str) -> bool:
    """Whether a rank failed because another one was gone; why that was, it cannot tell."""
    raised = failure.rpartition("\n  File ")[2]  # all that NCCL says, which are several lines
    return _LOST_CONNECTION.search(raised) is not None


def last_line(failure: str) -> str:
    """What a failure comes to: the exception at the end of its traceback."""
    head, *parts = failure.split(_RULE)
    is_traceback = head.endswith("with trace:") and parts
    return (parts[0] if is_traceback else head).strip().rpartition("\n")[2]
