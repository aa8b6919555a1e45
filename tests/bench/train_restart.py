"""How long training stands still when a rank is killed: until the first step of the next attempt.

Through the command, as a user has it. On one machine the command ends with its job, and is given
again at once; on SLURM the job is queued again by itself. All is read from what attempts leave in
the store, and from when their processes began.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from sigma_pipeline.infra.journal import Entry, read_entries
from sigma_pipeline.infra.storage import Storage, open_storage, read_json
from tests.bench.until import until

RECIPE = Path(__file__).with_name("train.yaml")
_STEPS_BEFORE = 4
_PATIENCE_S = 180


def restart_here(settings: Sequence[str], folder: Path) -> dict[str, float]:
    """Seconds of each phase, with two processes on this machine."""
    settings = [*settings, "run_name=here", *_SETTINGS]
    with (folder / "here.txt").open("w") as log:
        command = _command(settings, log)
        first = _run_until_committed(folder, "here")
        killed_s = _kill(first)
        command.wait()
        ended_s = time.time()
        with _ended_at_last(_command(settings, log)):
            later = _first_step(folder, "here", after=first.name)
        until(later.has_ended, "the last processes to end", _PATIENCE_S)
    phases = {"until the command has ended": ended_s - killed_s}
    return phases | later.phases(ended_s, "until the processes begin")


def restart_on_slurm(settings: Sequence[str], folder: Path) -> dict[str, float]:
    """The same on a node of SLURM, whose job is queued again by itself."""
    settings = [*settings, "run_name=slurm", "launch.cluster=slurm", *_SETTINGS]
    with (folder / "slurm.txt").open("w") as log:
        status = _command(settings, log).wait()
    if status:
        raise SystemExit(f"submitting ended with status {status}; see {folder / 'slurm.txt'}")
    first = _run_until_committed(folder, "slurm")
    try:
        killed_s = _kill(first)
        later = _first_step(folder, "slurm", after=first.name)
    finally:
        _cancel(str(first.facts["job_id"]))
    end = read_json(first.storage, f"runs/slurm/train/ends/{first.name}.json")
    ended_s = end["ended_ms"] / 1000
    phases = {"until the job has noted the end": ended_s - killed_s}
    return phases | later.phases(ended_s, "queue, until the processes begin")


_SETTINGS = (
    "launch.train.cpu_processes=2",
    "train.global_batch_clips=4",
    f"train.commit_every_steps={_STEPS_BEFORE}",
)


class Attempt:
    """One life of the training, as the store tells it."""

    def __init__(self, storage: Storage, run_name: str, name: str) -> None:
        self.storage = storage
        self.name = name
        self.facts: dict[str, Any] = read_json(
            storage, f"runs/{run_name}/train/attempts/{name}.json"
        )
        self.pid = _outer_pid(int(self.facts["pid"]), self.facts.get("job_id"))
        self._run_name = run_name
        self._process_began_s = _began_s(self.pid)

    def has_ended(self) -> bool:
        """Whether its first rank is gone."""
        return not Path(f"/proc/{self.pid}").exists()

    def entries(self) -> list[Entry]:
        """Of its journal so far."""
        entries, _ = read_entries(self.storage, self._run_name)
        return [entry for entry in entries if entry.attempt == self.name]

    def phases(self, since_s: float, first: str) -> dict[str, float]:
        """From a moment to its first step; known when that is over."""
        entries = self.entries()
        stepped = next(entry for entry in entries if entry.kind == "metrics")
        registered_s = _time_s(self.name)
        loaded_s = next(entry for entry in entries if entry.kind == "tags").time_ms / 1000
        return {
            first: self._process_began_s - since_s,
            "imports, and ranks that meet": registered_s - self._process_began_s,
            "data, engine and commit loaded": loaded_s - registered_s,
            "first batch and step": stepped.time_ms / 1000 - loaded_s,
        }


def _run_until_committed(folder: Path, run_name: str) -> Attempt:
    storage = open_storage(str(folder / "store"))
    attempt = until(
        lambda: _newest(storage, run_name, after=""), f"an attempt at {run_name}", _PATIENCE_S
    )
    until(lambda: _has_commit(storage, run_name), f"a commit of {run_name}", _PATIENCE_S)
    return attempt


def _first_step(folder: Path, run_name: str, *, after: str) -> Attempt:
    storage = open_storage(str(folder / "store"))
    attempt = until(
        lambda: _newest(storage, run_name, after), f"an attempt after {after}", _PATIENCE_S
    )
    until(
        lambda: [e for e in attempt.entries() if e.kind == "metrics"], "its first step", _PATIENCE_S
    )
    return attempt


def _newest(storage: Storage, run_name: str, after: str) -> Attempt | None:
    keys = storage.list(f"runs/{run_name}/train/attempts")
    names = sorted(key.rpartition("/")[2].removesuffix(".json") for key in keys)
    return Attempt(storage, run_name, names[-1]) if names and names[-1] > after else None


def _has_commit(storage: Storage, run_name: str) -> bool:
    folder = f"runs/{run_name}/train/step-{_STEPS_BEFORE:08d}"
    return any(key.endswith("/commit.json") for key in storage.list(folder))


def _kill(attempt: Attempt) -> float:
    """Ends its first rank without a word; when that was."""
    os.kill(attempt.pid, signal.SIGKILL)
    return time.time()


def _cancel(job_id: str) -> None:
    """Ends a job of SLURM, and waits until nothing of it is left."""
    subprocess.run(["scancel", job_id], check=True)
    asked = ["squeue", "--noheader", "--jobs", job_id]
    until(
        lambda: not subprocess.check_output(asked).strip(), f"the end of job {job_id}", _PATIENCE_S
    )


def _command(settings: Sequence[str], log: IO[str]) -> subprocess.Popen[bytes]:
    program = str(Path(sys.executable).with_name("sigma-pipeline"))
    options = [word for setting in settings for word in ("--set", setting)]
    arguments = [program, "run", "--stage", "train", "--config", str(RECIPE), *options]
    return subprocess.Popen(arguments, stdout=log, stderr=log)


@contextmanager
def _ended_at_last(command: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        command.terminate()
        command.wait()


def _time_s(attempt: str) -> float:
    """When an attempt was registered, as its name says."""
    registered = datetime.strptime(attempt.partition("-")[0], "%Y%m%dT%H%M%S%f")
    return registered.replace(tzinfo=UTC).timestamp()


def _outer_pid(pid: int, job_id: str | None) -> int:
    """Of a process that knows itself by ``pid``, perhaps in a node's own numbering.

    Args:
        pid: as an attempt gives it.
        job_id: SLURM's, which its environment has then.

    Raises:
        SystemExit: there is none.
    """
    job = b"" if job_id is None else f"SLURM_JOB_ID={job_id}\0".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, words = (folder / "status").read_text(), (folder / "cmdline").read_bytes()
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            is_it = int(numbers.split()[-1]) == pid and b"submitit" in words
            if is_it and job in (folder / "environ").read_bytes():
                return int(folder.name)
        except OSError:
            continue  # has ended since
    raise SystemExit(f"no process {pid} of submitit runs here")


def _began_s(pid: int) -> float:
    """When a process began, in seconds since 1970."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up_s + int(stat[19]) / os.sysconf("SC_CLK_TCK")
