"""A run's MLflow page, kept truthful: while a command works on it, and when somebody looks."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sigma_pipeline.infra.errors import Interrupted, PipelineError
from sigma_pipeline.infra.mlflow_run import Status
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.infra.tracking import Tracker
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.run_state import gather_facts
from sigma_pipeline.pipeline.run_status import note_truth
from sigma_pipeline.pipeline.services import tracking_address

log = logging.getLogger(__name__)


@contextmanager
def tracked(config: PipelineConfig, storage: Storage) -> Iterator[None]:
    """Copies the journal to MLflow for as long as it is entered, and says there how it ended.

    A run that SLURM goes on with is left RUNNING, however the command ends.
    """
    if tracking_address(config, storage) is None:
        log.warning(
            "track.tracking_uri is not set and the store is not local: numbers stay in the run's "
            "journal until sigma-pipeline sync is given an address"
        )
        yield
        return
    tracker = _tracker(config, storage)
    tracker.note("RUNNING")
    tracker.start()
    status: Status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except Interrupted:
        status = "KILLED"
        raise
    finally:
        tracker.finish("RUNNING" if _goes_on(config, storage) else status)


def update_tracking(config: PipelineConfig, storage: Storage) -> int:
    """Notes how a run of SLURM's stands, and brings to MLflow what is missing there.

    Returns:
        How many numbers that were.

    Raises:
        ConfigError: no address of MLflow is known.
        StageError: MLflow or the store failed; another call goes on where this one stopped.
    """
    note_how_it_stands(config, storage)
    return _tracker(config, storage).sync()


def note_how_it_stands(config: PipelineConfig, storage: Storage) -> None:
    """Notes for MLflow how a run of SLURM's stands."""
    note_truth(storage, config.run_name, gather_facts(storage, config.run_name))


def _tracker(config: PipelineConfig, storage: Storage) -> Tracker:
    track = config.track
    return Tracker(storage, config.run_name, track.experiment, track.tracking_uri)


def _goes_on(config: PipelineConfig, storage: Storage) -> bool:
    """Whether SLURM has a job of the run; where it does not answer, whether it was to have one."""
    try:
        facts = gather_facts(storage, config.run_name)
    except (PipelineError, OSError) as error:
        log.warning("How run %s stands could not be found out: %s", config.run_name, error)
        return False
    if facts.slurm_problem is not None:
        return config.launch.cluster == "slurm" and any(job.is_slurms for job in facts.jobs)
    return any(job.is_live for job in facts.jobs)
