"""Attempts at training a run, and the fence around it: only the newest one may commit.

Two lives of a job may overlap: a scheduler starts it again while a process of the old life, on a
node that was taken for dead, still runs. Each life registers when it starts; one that finds a newer
life registered stops instead of committing.
"""

from datetime import datetime, timedelta

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.storage import Storage, write_json_if_absent
from sigma_pipeline.jobs.commits import train_folder

_CLOCK = "%Y%m%dT%H%M%S%f"


def register_attempt(storage: Storage, run_name: str, facts: dict[str, str]) -> str:
    """Registers a new attempt and returns its id, which sorts after those of all earlier ones.

    Args:
        storage: where the run lies.
        run_name: the run that is trained.
        facts: what to keep for those who look for the attempt later: host, process, ...
    """
    earlier = _registered(storage, run_name)
    attempt = new_attempt()
    if earlier and attempt <= earlier[-1]:
        attempt = _just_after(earlier[-1], attempt)
    write_json_if_absent(storage, f"{_folder(run_name)}/{attempt}.json", facts)
    return attempt


def require_newest(storage: Storage, run_name: str, attempt: str) -> None:
    """Refuses an attempt that has been overtaken.

    Raises:
        StageError: a newer attempt is registered.
    """
    newest = _registered(storage, run_name)[-1]
    if newest != attempt:
        raise StageError(
            f"attempt {attempt} of run {run_name!r} is overtaken by attempt {newest}, which has "
            "started since; it may not commit and ends here"
        )


def _folder(run_name: str) -> str:
    return f"{train_folder(run_name)}/attempts"


def _registered(storage: Storage, run_name: str) -> list[str]:
    keys = storage.list(_folder(run_name))
    return sorted(key.rpartition("/")[2].removesuffix(".json") for key in keys)


def _just_after(earlier: str, attempt: str) -> str:
    """Id for a node whose clock is behind: a microsecond after ``earlier``."""
    time = datetime.strptime(earlier.partition("-")[0], _CLOCK) + timedelta(microseconds=1)
    return f"{time:{_CLOCK}}-{attempt.rpartition('-')[2]}"
