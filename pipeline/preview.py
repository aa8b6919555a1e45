"""What a run would do, stage by stage, and what it would end with; nothing is written."""

from collections.abc import Iterator, Sequence

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import PipelineError
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.commits import list_commits
from sigma_pipeline.jobs.evaluation import nothing_to_evaluate
from sigma_pipeline.pipeline.absent_columns import Absent, absent_columns, without_columns
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.on_slurm import describe_jobs
from sigma_pipeline.pipeline.sharding import planned_refs
from sigma_pipeline.pipeline.stage_names import StageName
from sigma_pipeline.pipeline.stages import STAGES, Stage, check_stages
from sigma_pipeline.pipeline.training import is_training_finished
from sigma_pipeline.pipeline.versions import resolve_refs


def preview(
    names: Sequence[StageName], config: PipelineConfig, *, follow: bool = False
) -> Iterator[str]:
    """Lines that say what each stage would do, or why it cannot; nothing is written.

    Args:
        names: of the stages that would run together: a later one may read what an earlier makes.
        config: of the run.
        follow: whether evaluation would wait for commits of a training that goes on elsewhere.

    Raises:
        PipelineError: after the last line, what the run would end with.
    """
    storage = open_storage(config.root_uri)
    failures: list[PipelineError] = []
    for stage in map(STAGES.__getitem__, names):
        found: list[PipelineError] = []
        try:
            for line in stage.preview(config, storage):
                yield f"{stage.name}: {line}"
            for line in describe_jobs(stage.name, config):
                yield f"{stage.name}: {line}"
            if stage.name is StageName.EVALUATE:
                for name, reason in _absent(names, config, storage).items():
                    yield f"{stage.name}: column {name} is left out: {reason}"
        except PipelineError as error:
            found.append(error)
        found += _missing(stage, names, config, storage, follow=follow)
        yield from (f"{stage.name}: cannot run: {error}" for error in found)
        failures += found
    check_stages(names, config, storage)  # a run does this first
    if failures:
        raise failures[0]


def _missing(
    stage: Stage,
    names: Sequence[StageName],
    config: PipelineConfig,
    storage: Storage,
    *,
    follow: bool,
) -> Iterator[PipelineError]:
    """What the stage reads, is not in the store, and none of the stages makes before it."""
    made = _made(names, config, storage)
    try:
        asked = config
        if stage.name is StageName.EVALUATE:
            asked = without_columns(config, _absent(names, config, storage))
        resolve_refs(storage, config, [one for one in stage.reads(asked) if one not in made])
    except PipelineError as error:
        yield error
    is_waiting = follow and not is_training_finished(storage, config.run_name)
    needs_commit = StageName.TRAIN in stage.needs and StageName.TRAIN not in names
    if needs_commit and not is_waiting and not list_commits(storage, config.run_name):
        yield nothing_to_evaluate(config.run_name)


def _absent(names: Sequence[StageName], config: PipelineConfig, storage: Storage) -> Absent:
    return absent_columns(config, storage, made=_made(names, config, storage))


def _made(
    names: Sequence[StageName], config: PipelineConfig, storage: Storage
) -> set[tuple[str, str]]:
    """(dataset, split) of what sharding makes before later stages read it."""
    if StageName.SHARD not in names:
        return set()
    return {
        (name, split)
        for name in config.datasets_to_shard
        for split in config.datasets[name].split_names
        if _is_made(config, storage, name, split)
    }


def _is_made(config: PipelineConfig, storage: Storage, name: str, split: str) -> bool:
    """Whether sharding the dataset makes the version that the later stages read.

    They read what it makes, over what the run's record named before, unless the recipe pins one.
    """
    version = config.dataset_versions.get(name, {}).get(split)
    if version is None:
        return True
    ref = DatasetRef(name, split, version)
    if storage.exists(ref.manifest_key):
        return False
    try:
        return ref in planned_refs(config, name)
    except PipelineError:  # told as a failure of the shard stage
        return False
