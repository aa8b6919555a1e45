"""From the journal of a run to its one MLflow run, in the background or on demand.

The journal is the truth. A tracker only copies, so it may be killed, restarted, or run twice at a
time; and a server that is slow or down delays nobody: what it misses is sent later.
"""

import fcntl
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sigma_pipeline.infra.errors import ConfigError, PipelineError, StageError
from sigma_pipeline.infra.identity import fingerprint
from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.mlflow_run import (
    RunWriter,
    Status,
    connect,
    create_run,
    explained,
    find_experiment,
    find_run,
    is_active,
    local_database,
    public_address,
)
from sigma_pipeline.infra.storage import (
    Storage,
    is_local,
    read_json,
    write_json,
    write_json_if_absent,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

_POLL_INTERVAL_S = 2.0
_LONGEST_WAIT_S = 60.0
_LOCK_PATIENCE_S = 60.0


@dataclass(frozen=True)
class RunRecord:
    """Where a pipeline run is found in MLflow; kept in the store, so that restarts go on there."""

    run_id: str
    experiment_id: str
    experiment: str
    tracking_uri: str
    """Without credentials."""


@dataclass(frozen=True)
class StatusNote:
    """How a run stands, as MLflow is to show it."""

    status: Status
    time_ms: int
    """Since when, in milliseconds since 1970."""


def note_status(
    storage: Storage, run_name: str, status: Status, *, time_ms: int | None = None
) -> None:
    """Keeps the status in the store; MLflow hears of it from the next tracker of the run.

    So jobs on nodes can say how the run stands, though they reach no MLflow.

    Args:
        storage: where the run lies.
        run_name: the run.
        status: as of ``time_ms``.
        time_ms: milliseconds since 1970, now if absent; a note of a later moment stays.
    """
    note = StatusNote(status, time.time_ns() // 1_000_000 if time_ms is None else time_ms)
    known = noted_status(storage, run_name)
    if known is None or known.time_ms <= note.time_ms:
        write_json(storage, _status_key(run_name), asdict(note))


def noted_status(storage: Storage, run_name: str) -> StatusNote | None:
    """What was noted last; None before the first note."""
    try:
        return StatusNote(**read_json(storage, _status_key(run_name)))
    except FileNotFoundError:
        return None


def default_tracking_uri(storage: Storage) -> str | None:
    """A database in a local store; None on S3, where no two machines could share one."""
    if not is_local(storage.root_uri):
        return None
    return f"sqlite:///{storage.root_uri}/mlflow/mlflow.db"


def recorded_run(
    storage: Storage, run_name: str, experiment: str, tracking_uri: str
) -> RunRecord | None:
    """Where an earlier tracker has put the run, without asking MLflow; None before the first."""
    try:
        return RunRecord(**read_json(storage, _record_key(run_name, experiment, tracking_uri)))
    except FileNotFoundError:
        return None


class Tracker:
    """Copies the journal of one run to one MLflow run; no number twice per (name, step)."""

    def __init__(
        self, storage: Storage, run_name: str, experiment: str, tracking_uri: str | None
    ) -> None:
        """Nothing is contacted yet.

        Raises:
            ConfigError: ``tracking_uri`` is None and the store has no default for it.
        """
        uri = tracking_uri or default_tracking_uri(storage)
        if uri is None:
            raise ConfigError(
                f"track.tracking_uri is not set, and {storage.root_uri} cannot hold MLflow's "
                "database; name an http server or sqlite:////path/to/mlflow.db"
            )
        self._storage = storage
        self._run_name = run_name
        self._experiment = experiment
        self._uri = uri
        self._one_at_a_time = threading.Lock()
        self._writer: RunWriter | None = None
        self._positions: dict[str, int] = {}
        self._sent_status: StatusNote | None = None
        self._is_failing = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, status: Status) -> None:
        """Keeps how the run stands, to be sent with what is copied next; never raises."""
        try:
            note_status(self._storage, self._run_name, status)
        except (PipelineError, OSError) as error:
            log.warning("Status %s of run %s not kept: %s", status, self._run_name, error)

    def start(self) -> None:
        """Copies in the background, a status that somebody notes too; never raises for a server."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._follow, name="tracker", daemon=True)
        self._thread.start()

    def sync(self) -> int:
        """Copies what is missing, now; returns how many numbers that were.

        Raises:
            StageError: MLflow or the store failed; another call goes on where this one stopped.
        """
        return self._copy(_LOCK_PATIENCE_S)

    def finish(self, status: Status) -> None:
        """Ends the background copying, copies the rest, sets the status; never raises for a server.

        What cannot be sent now, the status too, is sent by the next tracker of the run. RUNNING:
        the run goes on without this process, unless someone has noted since that it does not.
        """
        self._stop.set()
        if self._thread:
            self._thread.join()
            self._thread = None
        if status != "RUNNING":
            self.note(status)
        self._copy_or_warn(_LOCK_PATIENCE_S)

    def _follow(self) -> None:
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            if self._copy_or_warn(patience_s=0):
                wait_s = _POLL_INTERVAL_S
            else:
                wait_s = min(max(2 * wait_s, _POLL_INTERVAL_S), _LONGEST_WAIT_S)

    def _copy_or_warn(self, patience_s: float) -> bool:
        try:
            self._copy(patience_s)
        except _BusyError as error:
            # In the background the other one may go first; at the end somebody has to know.
            log.log(logging.WARNING if patience_s else logging.DEBUG, "%s", error)
            return not patience_s
        except (PipelineError, OSError) as error:
            if not self._is_failing:
                log.warning("%s; what is missing stays in the journal and is sent later", error)
            self._is_failing = True
            return False
        if self._is_failing:
            log.info("MLflow at %s has all of the journal again", public_address(self._uri))
        self._is_failing = False
        return True

    def _copy(self, patience_s: float) -> int:
        with self._one_at_a_time, _locked(_lock_path(self._uri), patience_s):
            # After a failure nobody knows what arrived: the next call asks MLflow and begins anew.
            writer, self._writer = self._writer, None
            if writer is None:
                self._positions, self._sent_status = {}, None
                with explained(self._uri):
                    writer = self._open_run()
            entries, positions = read_entries(self._storage, self._run_name, after=self._positions)
            with explained(self._uri):
                sent = writer.send(entries)
                self._send_status(writer)
            self._writer, self._positions = writer, positions
            return sent

    def _open_run(self) -> RunWriter:
        client = connect(self._uri)
        record = recorded_run(self._storage, self._run_name, self._experiment, self._uri)
        if record is None or not is_active(client, record.run_id):
            record = self._record(client, replaces=record)
        return RunWriter(client, record.run_id, self._storage)

    def _record(self, client: "MlflowClient", replaces: RunRecord | None) -> RunRecord:
        """Finds or makes the run in MLflow and keeps its id; of two that race, the first stays."""
        experiment_id = find_experiment(client, self._uri, self._experiment)
        run_uri = self._storage.uri(f"runs/{self._run_name}")
        run_id = find_run(client, experiment_id, run_uri)
        is_new = run_id is None
        run_id = run_id or create_run(client, experiment_id, self._run_name, run_uri)
        record = RunRecord(run_id, experiment_id, self._experiment, public_address(self._uri))
        key = _record_key(self._run_name, self._experiment, self._uri)
        if replaces:
            write_json(self._storage, key, asdict(record))
        elif not write_json_if_absent(self._storage, key, asdict(record)):
            if is_new:
                client.delete_run(run_id)
            return RunRecord(**read_json(self._storage, key))
        return record

    def _send_status(self, writer: RunWriter) -> None:
        note = noted_status(self._storage, self._run_name)
        if note is not None and note != self._sent_status:
            writer.set_status(note.status, note.time_ms)
            self._sent_status = note


def _status_key(run_name: str) -> str:
    return f"runs/{run_name}/tracking/status.json"


def _record_key(run_name: str, experiment: str, tracking_uri: str) -> str:
    place = fingerprint([public_address(tracking_uri), experiment])
    return f"runs/{run_name}/tracking/{place}.json"


class _BusyError(StageError):
    """Another process is sending to the same place."""


def _lock_path(tracking_uri: str) -> Path:
    database = local_database(tracking_uri)
    if database:
        return database.with_name(".tracker.lock")
    name = f"sigma-pipeline-{os.getuid()}-{fingerprint(tracking_uri)}.lock"
    return Path(tempfile.gettempdir(), name)


@contextmanager
def _locked(path: Path, patience_s: float) -> Iterator[None]:
    """Keeps other trackers of this machine out: set-up and pictures are asked for, then made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o666)
    deadline = time.monotonic() + patience_s
    try:
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise _BusyError(f"another process has been sending to MLflow for {patience_s} s")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
