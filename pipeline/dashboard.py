"""MLflow's pages for a run: served on this machine, or at the server that has them already."""

import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from sigma_pipeline.infra.dashboard import dashboard_server, run_link, wait_until_ready
from sigma_pipeline.infra.errors import ConfigError, MissingInputError, PipelineError
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.infra.tracking import recorded_run
from sigma_pipeline.jobs.submission import read_submissions
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.services import tracking_address
from sigma_pipeline.pipeline.tracked_run import update_tracking

log = logging.getLogger(__name__)

_PATIENCE_S = 10


@contextmanager
def served_dashboard(
    config: PipelineConfig, port: int | None
) -> Iterator[tuple[str, "subprocess.Popen[bytes] | None"]]:
    """The address of the run's page, and the server that was started for it, if one was needed.

    Raises:
        ConfigError: no address is known, or the port is taken.
        MissingInputError: nothing of the run has come to MLflow yet.
        StageError: the server does not come up.
    """
    storage = open_storage(config.root_uri)
    address = tracking_address(config, storage)
    if address is None:
        raise ConfigError("track.tracking_uri: set it; a store on S3 has no MLflow of its own")
    _bring_up_to_date(config, storage)
    record = recorded_run(storage, config.run_name, config.track.experiment, address)
    if record is None:
        raise MissingInputError(
            f"run '{config.run_name}' is not in MLflow at {address} yet; "
            "start it with sigma-pipeline run, or bring it there with sigma-pipeline sync"
        )
    if not address.startswith("sqlite:"):
        yield run_link(record.tracking_uri, record.experiment_id, record.run_id), None
        return
    server = dashboard_server(address, port)
    process = subprocess.Popen(server.arguments, env=server.environment)
    try:
        wait_until_ready(server, process)
        yield run_link(server.address, record.experiment_id, record.run_id), process
    finally:
        _end(process)


def _bring_up_to_date(config: PipelineConfig, storage: Storage) -> None:
    """Of a run in SLURM, whose nodes may not reach MLflow; only warns of what fails."""
    submissions = read_submissions(storage, config.run_name)
    if not any(one.cluster == "slurm" for one in submissions):
        return
    try:
        update_tracking(config, storage)
    except PipelineError as error:
        log.warning("%s; what MLflow shows may be old", error)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
