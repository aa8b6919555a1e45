"""Why a task of an evaluation left nothing: kept in the store until it succeeds, for tables."""

from dataclasses import asdict, dataclass

from sigma_pipeline.infra.storage import Storage, read_json, write_json


@dataclass(frozen=True)
class Failure:
    """What became of a task instead of a result."""

    error: str
    """One line, for people."""
    traceback: str = ""
    is_skipped: bool = False
    """It was not tried, by a rule of the recipe."""


def write_failure(storage: Storage, key: str, failure: Failure) -> None:
    """Keeps it at ``key``, over one before."""
    write_json(storage, key, asdict(failure))


def read_failure(storage: Storage, key: str) -> Failure | None:
    """What is kept at ``key``; None if nothing is."""
    try:
        return Failure(**read_json(storage, key))
    except FileNotFoundError:
        return None
