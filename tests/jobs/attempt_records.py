"""Attempts at training as they lie in a store, without a training."""

from typing import Any

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.attempts import AttemptEnd, AttemptRecord, record_end, register_attempt


def record(from_step: int = 0, **changes: Any) -> AttemptRecord:
    fields: dict[str, Any] = {
        "host": "n1",
        "pid": 7,
        "world_size": 2,
        "config_fingerprint": "f" * 16,
        "started_ms": 1000,
        "from_step": from_step,
        "nodes": ("n1", "n2"),
    }
    return AttemptRecord(**{**fields, **changes})


def end(state: Any = "failed", reason: str = "it broke", **changes: Any) -> AttemptEnd:
    return AttemptEnd(state=state, reason=reason, **{"step": 0, "ended_ms": 2000, **changes})


def put_attempt(
    storage: Storage, *, from_step: int = 0, ended: AttemptEnd | None = None, **changes: Any
) -> str:
    """Of the run ``run``; returns its id."""
    attempt = register_attempt(storage, "run", record(from_step, **changes))
    if ended is not None:
        record_end(storage, "run", attempt, ended)
    return attempt
