"""The train stage: may this run go on with these settings, and if so, launched and looked after."""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import ConfigError, Interrupted, PipelineError
from sigma_pipeline.infra.storage import Storage, read_json, write_json, write_json_if_absent
from sigma_pipeline.jobs.commits import free_run_name, manifest_key, newest_commit, train_folder
from sigma_pipeline.jobs.launch_train import TrainJob, launch_train
from sigma_pipeline.jobs.submission import record_submission
from sigma_pipeline.jobs.submit_train import forget_verdict
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_result import TrainResult
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.log_tail import LogTail
from sigma_pipeline.pipeline.run_recipe import record_recipe
from sigma_pipeline.pipeline.science import (
    TEACHER_KEY,
    completed,
    differences,
    headline,
    is_teacher_unknown,
    science_fingerprint,
    training_settings,
)
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.snapshots import take_snapshot
from sigma_pipeline.pipeline.teacher import check_teacher
from sigma_pipeline.pipeline.versions import resolve_refs, version_of

log = logging.getLogger(__name__)

_POLL_INTERVAL_S = 0.5


def check_trainable(config: PipelineConfig, storage: Storage) -> None:
    """Refuses what cannot be trained, before anything is launched; writes nothing.

    Raises:
        ConfigError: the frozen teacher is not where the recipe says, or the run has commits of
            other science.
    """
    check_teacher(config.model.target)
    recorded = recorded_settings(storage, config.run_name)
    if recorded is not None:
        # Which data there will be is not known yet; this is compared again before the launch.
        settings = training_settings(config, recorded["dataset_version"])
        require_same_science(storage, config.run_name, settings)


def _settings_key(run_name: str) -> str:
    return f"{train_folder(run_name)}/settings.json"


def recorded_settings(storage: Storage, run_name: str) -> dict[str, Any] | None:
    """What the training of a run was told; None where it has not begun here."""
    try:
        return completed(read_json(storage, _settings_key(run_name)))
    except FileNotFoundError:
        return None


def is_training_finished(storage: Storage, run_name: str) -> bool:
    """Whether training has taken its last step and committed it."""
    return storage.exists(manifest_key(run_name))


def require_same_science(storage: Storage, run_name: str, settings: Mapping[str, Any]) -> None:
    """Refuses settings that would mix two kinds of science in one run; writes nothing.

    Raises:
        ConfigError: there are commits of other science; names the keys.
    """
    recorded = recorded_settings(storage, run_name)
    if recorded is None:
        return
    touching, _ = differences(recorded, settings)
    if touching and newest_commit(storage, run_name) is not None:
        way_out = (
            "an earlier release began it and did not record which teacher it had, so it cannot go "
            "on: begin another run"
            if is_teacher_unknown(recorded)
            else "set them back, or begin another run"
        )
        raise ConfigError(
            f"run '{run_name}' was begun with other settings: {'; '.join(touching)}. One run is "
            f"one recipe: {way_out} with --set run_name={free_run_name(storage, run_name)}"
        )


def record_settings(storage: Storage, run_name: str, settings: Mapping[str, Any]) -> None:
    """Keeps the settings that a run is first trained with.

    Settings that don't touch the science may change later, and are logged.

    Raises:
        ConfigError: there are commits of other science; names the keys.
    """
    require_same_science(storage, run_name, settings)
    if write_json_if_absent(storage, _settings_key(run_name), settings):
        return
    if newest_commit(storage, run_name) is None:  # nothing was made with those that are there
        write_json(storage, _settings_key(run_name), settings)
        return
    _, harmless = differences(recorded_settings(storage, run_name) or settings, settings)
    if harmless:
        log.info("Changed since the run began, not touching the science: %s", "; ".join(harmless))


@contextmanager
def training(config: PipelineConfig, services: Services) -> Iterator[Callable[[], bool] | None]:
    """Trains for as long as it is entered, and waits for the end when it is left.

    Left by an error or a signal, it asks the job to save and end, and waits for that.

    Yields:
        Says whether training still goes on; to be called now and then, as it relays the job's log.
        None where there is nothing left to train.

    Raises:
        ConfigError: the run was begun with other science, this machine cannot carry it, or the
            frozen teacher has gone.
        MissingInputError: the dataset has not been sharded.
        Interrupted: somebody else stopped the job.
        PipelineError: what ended the job.
    """
    request = recorded_request(config, services)
    if is_training_finished(services.storage, config.run_name):
        log.info("Stage train is up to date: run %s is trained to its end", config.run_name)
        yield None
        return
    job = _launch(request, config, services)
    tail = LogTail(job.log_path, services.show)
    is_left_in_order = False
    try:
        yield lambda: _is_running(job, tail)
        is_left_in_order = True
    finally:
        if not is_left_in_order:
            _stop(job, tail)
    result = _wait(job, tail)
    if result["state"] == "stopped":
        raise Interrupted(
            f"training stopped after step {result['step']} ({result['reason']}); "
            "the same command goes on from there"
        )


def recorded_request(
    config: PipelineConfig, services: Services, *, promised: Collection[DatasetRef] = ()
) -> TrainRequest:
    """What to train, once it is sure that it may be, and written down in the run.

    Args:
        config: of the run.
        services: of the run.
        promised: what need not be sharded yet, as jobs that were submitted will have done it.

    Raises:
        ConfigError: the run was begun with other science, or the frozen teacher has gone.
        MissingInputError: the dataset has not been sharded.
    """
    refs = resolve_refs(services.storage, config, config.trained_splits, promised=promised)
    datasets = tuple(refs[split] for split in config.trained_splits)
    settings = training_settings(config, version_of(datasets))
    record_settings(services.storage, config.run_name, settings)
    record_recipe(services, config, datasets)
    with services.journal("settings") as journal:
        journal.parameters(headline(settings))
    return TrainRequest(
        run_name=config.run_name,
        root_uri=config.root_uri,
        work_dir=str(config.work_path),
        scratch_dir=str(config.scratch_path),
        seed=config.seed,
        model=config.model,
        train=config.train,
        datasets=datasets,
        config_fingerprint=science_fingerprint(settings),
        teacher_sha256=settings.get(TEACHER_KEY),
    )


def _launch(request: TrainRequest, config: PipelineConfig, services: Services) -> TrainJob:
    """Starts training on this machine, from the code as it is now."""
    snapshot = take_snapshot(config, services)
    forget_verdict(services.storage, config.run_name)
    job = launch_train(request, config.launch, config.work_path, code=snapshot.code)
    record_submission(snapshot, "train", job.job_id, job.folder, world_size=job.world_size)
    return job


def _is_running(job: TrainJob, tail: LogTail) -> bool:
    tail.show_new()
    return job.poll() == "running"


def _wait(job: TrainJob, tail: LogTail) -> TrainResult:
    while _is_running(job, tail):
        time.sleep(_POLL_INTERVAL_S)
    tail.show_new()
    return job.wait()


def _stop(job: TrainJob, tail: LogTail) -> None:
    log.info("Training is asked to save and end")
    job.stop()
    try:
        _wait(job, tail)
    except PipelineError as error:  # what made us stop it is what the user should hear of
        log.error("Training did not end in order: %s", error)
