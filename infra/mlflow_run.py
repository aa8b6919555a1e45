"""One run in MLflow, fed from journal entries. The only import of mlflow, and only when used: it
takes two seconds and more.

What was sent before is not sent again: numbers and pictures by (name, step), parameters by name,
datasets by name and content. So the same entries may be given any number of times.
"""

import io
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import Entry
from sigma_pipeline.infra.storage import Storage

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

log = logging.getLogger(__name__)

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

# Limits of MLflow's log_batch call and of its names and values.
_METRICS_PER_CALL = 1000
_FACTS_PER_CALL = 100
_NAME_CHARACTERS = 250
_VALUE_CHARACTERS = 6000
_NOT_IN_NAMES = re.compile(r"[^\w\-./: ]", re.ASCII)
_RUN_TAG = "sigma.run"


# Set before mlflow is imported; what the user has set stays.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # Whoever calls tries again later anyway; by default one call may wait for many minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def connect(tracking_uri: str) -> "MlflowClient":
    """A client of the server or database; the first touch of a new database takes seconds."""
    from mlflow import MlflowClient

    database = local_database(tracking_uri)
    if database:
        database.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=tracking_uri)


def local_database(tracking_uri: str) -> Path | None:
    """The file behind a ``sqlite:///`` address; None for a server."""
    prefix = "sqlite:///"
    return Path(tracking_uri.removeprefix(prefix)) if tracking_uri.startswith(prefix) else None


def public_address(tracking_uri: str) -> str:
    """``tracking_uri`` without a user's name and password."""
    parts = urlsplit(tracking_uri)
    if "@" not in parts.netloc:
        return tracking_uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@contextmanager
def explained(tracking_uri: str) -> Iterator[None]:
    """Around every use of MLflow: what goes wrong becomes a StageError that names the server."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise StageError(f"MLflow at {public_address(tracking_uri)}: {reason:.300}") from error


def find_experiment(client: "MlflowClient", tracking_uri: str, name: str) -> str:
    """The id of the experiment, which is made if need be.

    With a local database its files go to ``artifacts`` beside it; else where the server decides.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment:
        return str(experiment.experiment_id)
    database = local_database(tracking_uri)
    folder = database.absolute().with_name("artifacts").as_uri() if database else None
    return str(client.create_experiment(name, artifact_location=folder))


def find_run(client: "MlflowClient", experiment_id: str, run_uri: str) -> str | None:
    """The id of the run that ``create_run`` made for ``run_uri``, unless it has been deleted."""
    address = run_uri.replace("'", "''")
    found = client.search_runs(
        [experiment_id],
        filter_string=f"tags.`{_RUN_TAG}` = '{address}'",
        max_results=1,
        order_by=["attributes.start_time ASC"],
    )
    return str(found[0].info.run_id) if found else None


def is_active(client: "MlflowClient", run_id: str) -> bool:
    """Whether the run is there and has not been deleted."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return bool(run.info.lifecycle_stage == "active")


def create_run(client: "MlflowClient", experiment_id: str, run_name: str, run_uri: str) -> str:
    """A new run, marked with the place it comes from."""
    tags = {_RUN_TAG: run_uri, "mlflow.source.name": "sigma-pipeline"}
    return str(client.create_run(experiment_id, run_name=run_name, tags=tags).info.run_id)


class RunWriter:
    """Brings journal entries to one existing run."""

    def __init__(self, client: "MlflowClient", run_id: str, storage: Storage) -> None:
        self._client = client
        self._run_id = run_id
        self._storage = storage
        run = client.get_run(run_id)
        self._parameters = dict(run.data.params)
        self._tags = dict(run.data.tags)
        self._with_history = set(run.data.metrics)
        self._steps: dict[str, set[int]] = {}
        inputs = run.inputs.dataset_inputs if run.inputs else ()
        self._datasets = {(entry.dataset.name, entry.dataset.digest) for entry in inputs}
        self._artifacts: dict[str, str] = {}

    def send(self, entries: list[Entry]) -> int:
        """Sends what the run does not have yet; returns how many numbers that were."""
        self._send_facts(entries)
        metrics = list(self._new_metrics(entries))
        for start in range(0, len(metrics), _METRICS_PER_CALL):
            batch = metrics[start : start + _METRICS_PER_CALL]
            self._client.log_batch(self._run_id, metrics=batch)
        for entry in entries:
            if entry.kind == "dataset":
                self._send_dataset(entry)
            elif entry.kind == "picture":
                self._send_picture(entry)
        newest = {e.fields["name"]: e.fields["key"] for e in entries if e.kind == "artifact"}
        for name, key in newest.items():
            self._send_artifact(name, key)
        return len(metrics)

    def set_status(self, status: Status, time_ms: int) -> None:
        """Marks the run as going on, or as ended at ``time_ms`` (milliseconds since 1970)."""
        if status == "RUNNING":
            self._client.update_run(self._run_id, status=status)
        else:
            self._client.set_terminated(self._run_id, status=status, end_time=time_ms)

    def _send_facts(self, entries: Iterable[Entry]) -> None:
        """Parameters: the first value stays. Tags: the last one; several jobs may write at once."""
        from mlflow.entities import Param, RunTag

        parameters: dict[str, str] = {}
        tags: dict[str, str] = {}
        for entry in sorted(entries, key=lambda entry: entry.time_ms):
            if entry.kind == "parameters":
                parameters = _named(entry.fields["values"]) | parameters
            elif entry.kind == "tags":
                tags |= _named(entry.fields["values"])
        new_parameters = [Param(*p) for p in parameters.items() if p[0] not in self._parameters]
        new_tags = [RunTag(*tag) for tag in tags.items() if tag not in self._tags.items()]
        for start in range(0, len(new_parameters), _FACTS_PER_CALL):
            batch = new_parameters[start : start + _FACTS_PER_CALL]
            self._client.log_batch(self._run_id, params=batch)
        for start in range(0, len(new_tags), _FACTS_PER_CALL):
            self._client.log_batch(self._run_id, tags=new_tags[start : start + _FACTS_PER_CALL])
        self._parameters |= parameters
        self._tags |= tags

    def _new_metrics(self, entries: Iterable[Entry]) -> Iterator["Metric"]:
        from mlflow.entities import Metric

        for entry in entries:
            if entry.kind != "metrics":
                continue
            step = entry.fields["step"]
            for name, value in entry.fields["values"].items():
                steps = self._steps_of(_valid_name(name))
                if step not in steps:
                    steps.add(step)
                    yield Metric(_valid_name(name), value, entry.time_ms, step)

    def _steps_of(self, name: str) -> set[int]:
        """The steps at which the run has a number of this name; asked for once."""
        if name not in self._steps:
            has_history = name in self._with_history
            history = self._client.get_metric_history(self._run_id, name) if has_history else ()
            self._steps[name] = {metric.step for metric in history}
        return self._steps[name]

    def _send_dataset(self, entry: Entry) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        split, uri, root_hash = (entry.fields[field] for field in ("split", "uri", "root_hash"))
        full_name, digest = f"{entry.fields['name']}/{split}", root_hash[:36]  # MLflow's limit
        if (full_name, digest) in self._datasets:
            return
        source_type = "s3" if uri.startswith("s3://") else "local"
        source = {"uri": uri, "version": entry.fields["version"], "root_hash": root_hash}
        dataset = Dataset(full_name, digest, source_type, json.dumps(source))
        tags = [InputTag("mlflow.data.context", split)]
        self._client.log_inputs(self._run_id, datasets=[DatasetInput(dataset, tags)])
        self._datasets.add((full_name, digest))

    def _send_picture(self, entry: Entry) -> None:
        from PIL import Image, UnidentifiedImageError

        step, key = entry.fields["step"], entry.fields["key"]
        name = _valid_name(entry.fields["name"]).replace(":", "_")
        # MLflow writes the small copy last; asked each time, as another process may send too.
        start, end = f"images/{name.replace('/', '~')}+step+{step}+", "+compressed.webp"
        files = self._client.list_artifacts(self._run_id, "images")
        if any(file.path.startswith(start) and file.path.endswith(end) for file in files):
            return
        try:
            picture = Image.open(io.BytesIO(self._storage.read(key)))
            picture.load()
        except (FileNotFoundError, UnidentifiedImageError) as error:
            log.warning("Picture %s of step %d is left out: %s", name, step, error)
            return
        self._client.log_image(
            self._run_id, picture, key=name, step=step, timestamp=entry.time_ms, synchronous=True
        )

    def _send_artifact(self, name: str, key: str) -> None:
        if self._artifacts.get(name) == key:
            return
        path = PurePosixPath(name)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, path.name)
            try:
                self._storage.download(key, copy)
            except FileNotFoundError as error:
                log.warning("File %s is left out: %s", name, error)
                return
            parent = None if path.parent == PurePosixPath() else str(path.parent)
            self._client.log_artifact(self._run_id, str(copy), artifact_path=parent)
        self._artifacts[name] = key


def _named(values: dict[str, str]) -> dict[str, str]:
    return {_valid_name(name): str(value)[:_VALUE_CHARACTERS] for name, value in values.items()}


def _valid_name(name: str) -> str:
    """The name with what MLflow refuses replaced: one bad name would hold up all numbers."""
    parts = _NOT_IN_NAMES.sub("_", name)[:_NAME_CHARACTERS].split("/")
    return "/".join(part for part in parts if part not in ("", ".", "..")) or "_"
