"""What is known of a run, from its store and from SLURM: gathered once, to be shown or judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.manifest import Manifest, read_manifest
from sigma_pipeline.infra.journal import last_metrics
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.attempts import (
    Attempt,
    Verdict,
    attempt_names,
    is_cancelled,
    newest_attempts,
    read_verdict,
)
from sigma_pipeline.jobs.commits import Commit, manifest_key, newest_commit
from sigma_pipeline.jobs.slurm import SlurmError, slurm_is_here
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.run_jobs import RunJob, read_jobs
from sigma_pipeline.pipeline.run_recipe import recorded_versions
from sigma_pipeline.pipeline.run_status import RunFacts
from sigma_pipeline.pipeline.train_progress import Progress, read_progress, time_of_step
from sigma_pipeline.pipeline.train_schedule import num_train_samples, total_steps

_SHOWN_ATTEMPTS = 6


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Where training stands, from the store."""

    is_finished: bool = False
    total_steps: int | None = None
    """None before all datasets are sharded."""
    global_batch_clips: int
    commit: Commit | None = None
    """The newest."""
    committed_ms: int | None = None
    """About when, in milliseconds since 1970; None where it was long before the last numbers."""
    progress: Progress | None = None
    attempts: Sequence[Attempt] = ()
    """The last few, the newest first."""
    num_attempts: int = 0
    verdict: Verdict | None = None


@dataclass(frozen=True, kw_only=True)
class RunState:
    """All that ``status`` shows, but for the scores."""

    run_name: str
    root_uri: str
    now_ms: int
    splits: Sequence[tuple[str, Manifest | None]]
    """``dataset/split`` and its receipt; None while that is not there."""
    train: TrainState
    facts: RunFacts

    @property
    def jobs(self) -> Sequence[RunJob]:
        """In the order of their submission."""
        return self.facts.jobs


def gather_state(config: PipelineConfig, storage: Storage, now_ms: int) -> RunState:
    """Asks store and SLURM; writes nothing."""
    return RunState(
        run_name=config.run_name,
        root_uri=config.root_uri,
        now_ms=now_ms,
        splits=_splits(config, storage),
        train=_train_state(config, storage),
        facts=gather_facts(storage, config.run_name),
    )


def gather_facts(storage: Storage, run_name: str) -> RunFacts:
    """What the status of a run follows from, as of now."""
    jobs, problem = _ask_slurm(storage, run_name)
    last = next(newest_attempts(storage, run_name), None)
    end = last.end if last else None
    return RunFacts(
        jobs=jobs,
        slurm_problem=problem,
        is_trained=storage.exists(manifest_key(run_name)),
        is_given_up=read_verdict(storage, run_name) is not None,
        cancelled=[
            job.job_id
            for job in jobs
            if job.stage == "train" and is_cancelled(storage, run_name, job.job_id)
        ],
        last_end=end.state if end else None,
        last_end_ms=end.ended_ms if end else None,
    )


def _ask_slurm(storage: Storage, run_name: str) -> tuple[list[RunJob], str | None]:
    is_here = slurm_is_here()
    problem = None if is_here else "this machine has not its commands"
    try:
        return read_jobs(storage, run_name, ask_slurm=is_here), problem
    except SlurmError as error:
        return read_jobs(storage, run_name, ask_slurm=False), str(error)


def _splits(config: PipelineConfig, storage: Storage) -> list[tuple[str, Manifest | None]]:
    recorded = recorded_versions(storage, config.run_name)
    found = []
    for name, dataset in config.datasets.items():
        versions = recorded.get(name, {})
        for split in dataset.split_names:
            manifest = None
            if split in versions:
                manifest = read_manifest(storage, DatasetRef(name, split, versions[split]))
            found.append((f"{name}/{split}", manifest))
    return found


def _train_state(config: PipelineConfig, storage: Storage) -> TrainState:
    run_name = config.run_name
    attempts = list(islice(newest_attempts(storage, run_name), _SHOWN_ATTEMPTS))
    metrics = last_metrics(storage, run_name, [attempt.name for attempt in attempts])
    samples = num_train_samples(config, storage)
    commit = newest_commit(storage, run_name)
    is_finished = storage.exists(manifest_key(run_name))
    total = total_steps(config, samples) if samples else None
    return TrainState(
        is_finished=is_finished,
        # The recipe that one asks with may have other epochs than the run was trained with.
        total_steps=commit.step if is_finished and commit else total,
        global_batch_clips=config.train.global_batch_clips,
        commit=commit,
        committed_ms=None if commit is None else time_of_step(metrics, commit.step),
        progress=read_progress(metrics),
        attempts=attempts,
        num_attempts=len(attempt_names(storage, run_name)),
        verdict=read_verdict(storage, run_name),
    )
