"""Attempts at training a run: who began, how it ended, which one may commit, when to give up.

Two lives of a job may overlap: a scheduler starts it again while a process of the old life, on a
node that was taken for dead, still runs. Each life registers when it starts; one that finds a newer
life registered stops instead of committing.

Whoever decides what follows an attempt reads it from here: rank 0 before it begins, and
``after_attempt`` where the batch script ends. So nothing heavy is imported.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.storage import Storage, read_json, write_json, write_json_if_absent
from sigma_pipeline.jobs.commits import committing_attempts, train_folder

_CLOCK = "%Y%m%dT%H%M%S%f"
_SHOWN_REASONS = 3

EndState = Literal["finished", "stopped", "failed", "died"]
Record = TypeVar("Record", "AttemptRecord", "AttemptEnd", "Verdict")


@dataclass(frozen=True, kw_only=True)
class AttemptRecord:
    """What is known of an attempt when it begins."""

    host: str
    pid: int
    world_size: int
    config_fingerprint: str
    started_ms: int
    """Milliseconds since 1970."""
    from_step: int
    """Of the newest commit then; 0 before any."""
    job_id: str | None = None
    """SLURM's."""
    restart: int = 0
    """How often SLURM had started the job before."""
    nodes: tuple[str, ...] = ()
    """Host names by rank."""


@dataclass(frozen=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended."""

    state: EndState
    """``stopped``: on request, or its nodes were taken. ``died``: without a word of its own."""
    reason: str
    step: int
    """Steps taken then, as far as known."""
    ended_ms: int
    """Milliseconds since 1970."""
    bad_nodes: tuple[str, ...] = ()
    """Hosts that the next attempt should do without."""
    is_final: bool = False
    """Whether another attempt would fail alike: wrong settings, data that are not there."""

    @property
    def is_failure(self) -> bool:
        """Whether it counts towards giving the run up. A stop does not, even before a step."""
        return self.state in ("failed", "died")


@dataclass(frozen=True)
class Attempt:
    """One attempt as the store knows it."""

    name: str
    record: AttemptRecord | None
    """None of one that ended before it could register."""
    end: AttemptEnd | None
    """None while it goes on, and of one whose node died."""
    is_taken: bool = False
    """Whether SLURM took its nodes away."""

    @property
    def from_step(self) -> int:
        """The newest commit's when it began."""
        if self.record is not None:
            return self.record.from_step
        return self.end.step if self.end else 0

    @property
    def is_failure(self) -> bool:
        """Whether it counts towards giving the run up: so does one of which nothing more is known.

        To be asked of attempts that are over.
        """
        return self.end is None or self.end.is_failure

    @property
    def is_idle(self) -> bool:
        """Whether it stopped by its own will before it took a step."""
        return (
            self.end is not None
            and self.end.state == "stopped"
            and self.end.step <= self.from_step
            and not self.is_taken
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The run was given up."""

    reason: str
    attempts: int
    """In a row, without a newer commit."""
    step: int
    """Of the newest commit."""
    time_ms: int
    """Milliseconds since 1970."""


class Overtaken(StageError):  # noqa: N818 - named by what has happened
    """A newer attempt has started: this one may not write any more."""


def register_attempt(storage: Storage, run_name: str, record: AttemptRecord) -> str:
    """Registers a new attempt and returns its id, which sorts after those of all earlier ones."""
    earlier = _names(storage, run_name, "attempts")
    attempt = new_attempt()
    if earlier and attempt <= earlier[-1]:
        attempt = _just_after(earlier[-1], attempt)
    write_json_if_absent(storage, _key(run_name, "attempts", attempt), asdict(record))
    return attempt


def record_end(storage: Storage, run_name: str, attempt: str, end: AttemptEnd) -> bool:
    """Keeps how an attempt ended; whether this was the first word of it, which stays."""
    return write_json_if_absent(storage, _key(run_name, "ends", attempt), asdict(end))


def note_taken(storage: Storage, run_name: str, attempt: str, step: int) -> None:
    """Says that SLURM takes an attempt's nodes away, which may be too quick for it to save.

    Holds as its end where no other word of that comes.
    """
    end = AttemptEnd(
        state="stopped", reason="SLURM took its nodes away", step=step, ended_ms=now_ms()
    )
    write_json_if_absent(storage, _key(run_name, "taken", attempt), asdict(end))


def require_newest(storage: Storage, run_name: str, attempt: str) -> None:
    """Refuses an attempt that has been overtaken.

    Raises:
        Overtaken: a newer attempt is registered.
    """
    newest = _names(storage, run_name, "attempts")[-1]
    if newest != attempt:
        raise Overtaken(
            f"attempt {attempt} of run {run_name!r} is overtaken by attempt {newest}, which has "
            "started since; it may not commit and ends here"
        )


def attempt_names(storage: Storage, run_name: str) -> list[str]:
    """Of all attempts, the oldest first; of those too that ended before they could register."""
    kinds = ("attempts", "ends")
    return sorted({name for kind in kinds for name in _names(storage, run_name, kind)})


def newest_attempts(storage: Storage, run_name: str) -> Iterator[Attempt]:
    """All attempts, the newest first, each read when it is asked for."""
    taken = frozenset(_names(storage, run_name, "taken"))
    for name in reversed(attempt_names(storage, run_name)):
        record = _read(storage, _key(run_name, "attempts", name), AttemptRecord)
        end = _read(storage, _key(run_name, "ends", name), AttemptEnd)
        if end is None and name in taken:
            end = _read(storage, _key(run_name, "taken", name), AttemptEnd)
        yield Attempt(name, record, end, is_taken=name in taken)


def read_attempts(storage: Storage, run_name: str) -> list[Attempt]:
    """All attempts, the oldest first."""
    return list(newest_attempts(storage, run_name))[::-1]


def attempts_without_progress(
    storage: Storage, run_name: str, newest_step: int, since: str = ""
) -> list[Attempt]:
    """The latest attempts, the newest first, that brought no commit after ``newest_step``.

    Those of them that are failures count against the run. A stop does not: neither one that all
    ranks agreed on, nor a preemption, even before the first step.

    Args:
        storage: where the run lies.
        run_name: the run.
        newest_step: of its newest commit, 0 before any.
        since: id; attempts before it are left out, for a person has started the run anew then.
    """
    latest = []
    # One that went on from before a damaged commit may bring no later one, and has got on.
    committing = committing_attempts(storage, run_name)
    for attempt in newest_attempts(storage, run_name):
        has_progress = attempt.from_step < newest_step or attempt.name in committing
        if has_progress or attempt.name < since:
            break
        latest.append(attempt)
    return latest


def verdict_on(failures: Sequence[Attempt], *, step: int, log_path: str) -> Verdict:
    """The words with which a run is given up.

    Args:
        failures: attempts without progress, the newest first.
        step: of the newest commit.
        log_path: where the logs are.
    """
    reasons = [failure.end.reason if failure.end else "its node died" for failure in failures]
    shown = "; ".join(dict.fromkeys(reasons[:_SHOWN_REASONS]))
    attempts = "1 attempt" if len(failures) == 1 else f"{len(failures)} attempts in a row"
    reason = (
        f"given up after {attempts} without a commit after step {step}, the newest first: {shown} "
        f"(logs: {log_path}); when the cause is gone, `sigma-pipeline run --stage train` tries anew"
    )
    return Verdict(reason=reason, attempts=len(failures), step=step, time_ms=now_ms())


def write_verdict(storage: Storage, run_name: str, verdict: Verdict) -> None:
    """Gives the run up: no attempt begins until the verdict is deleted."""
    write_json(storage, _verdict_key(run_name), asdict(verdict))


def read_verdict(storage: Storage, run_name: str) -> Verdict | None:
    """Why the run was given up; None while it was not."""
    return _read(storage, _verdict_key(run_name), Verdict)


def delete_verdict(storage: Storage, run_name: str) -> None:
    """Lets attempts begin again."""
    storage.delete(_verdict_key(run_name))


def mark_cancelled(storage: Storage, run_name: str, job_id: str, by_host: str) -> None:
    """Says, before a job is signalled, that it is not to be continued."""
    mark = {"time_ms": now_ms(), "by": by_host}
    write_json_if_absent(storage, _key(run_name, "cancelled", job_id), mark)


def is_cancelled(storage: Storage, run_name: str, job_id: str) -> bool:
    """Whether somebody has cancelled this job."""
    return storage.exists(_key(run_name, "cancelled", job_id))


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _key(run_name: str, kind: str, name: str) -> str:
    return f"{train_folder(run_name)}/{kind}/{name}.json"


def _verdict_key(run_name: str) -> str:
    return f"{train_folder(run_name)}/verdict.json"


def _names(storage: Storage, run_name: str, kind: str) -> list[str]:
    keys = storage.list(f"{train_folder(run_name)}/{kind}")
    return sorted(key.rpartition("/")[2].removesuffix(".json") for key in keys)


def _read(storage: Storage, key: str, kind: type[Record]) -> Record | None:
    """The record; None where there is none.

    Raises:
        StageError: it is not what was written there.
    """
    try:
        found: dict[str, Any] = read_json(storage, key)
    except FileNotFoundError:
        return None
    known = {field.name for field in fields(kind)}
    try:
        return kind(**{name: _frozen(value) for name, value in found.items() if name in known})
    except TypeError as error:
        raise StageError(f"{storage.uri(key)} is damaged: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _just_after(earlier: str, attempt: str) -> str:
    """Id for a node whose clock is behind: a microsecond after ``earlier``."""
    moment = datetime.strptime(earlier.partition("-")[0], _CLOCK) + timedelta(microseconds=1)
    return f"{moment:{_CLOCK}}-{attempt.rpartition('-')[2]}"
