"""The shard stage: every dataset of the recipe brought to the store, and its version recorded."""

import logging
from collections.abc import Iterator
from functools import partial

from sigma_pipeline.data_prep.config import RenderedConfig
from sigma_pipeline.data_prep.demo import demo_folder
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.manifest import read_manifest
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.config import LaunchConfig
from sigma_pipeline.jobs.launch_shard import shard_on_slurm
from sigma_pipeline.jobs.shard import DatasetPlan, SplitPlan, plan_dataset, shard_dataset
from sigma_pipeline.jobs.shard_cost import estimate
from sigma_pipeline.jobs.shard_summary import check_listed
from sigma_pipeline.pipeline.config import DEMO_SOURCE, PipelineConfig
from sigma_pipeline.pipeline.run_recipe import record_recipe, recorded_versions
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.snapshots import take_snapshot
from sigma_pipeline.pipeline.versions import changed_settings

log = logging.getLogger(__name__)


def run_shard_stage(config: PipelineConfig, services: Services, *, force: bool) -> None:
    """Shards what is not there yet; with ``force`` everything. Waits, on SLURM too.

    Raises:
        MissingInputError: a source is missing or empty.
        StageError: too many inputs had to be rejected.
    """
    for name in config.datasets_to_shard:
        refs = _pinned_refs(config, services.storage, name) if not force else None
        if refs is None:
            plan = _plan(config, services.storage, name)
            _shard(config, services, plan, force=force)
            refs = list(plan.refs.values())
        record_recipe(services, config, refs)


def plan_shards(config: PipelineConfig, services: Services, *, force: bool) -> list[DatasetPlan]:
    """What has to be sharded; demo videos are rendered, and the run's record names the versions.

    Raises:
        MissingInputError: a source is missing or empty.
        StageError: too many inputs are known to be bad.
    """
    plans = []
    for name in config.datasets_to_shard:
        refs = _pinned_refs(config, services.storage, name) if not force else None
        if refs is None:
            plan = _plan(config, services.storage, name)
            refs = list(plan.refs.values())
            plans.append(plan)
        record_recipe(services, config, refs)
    return plans


def preview_shard_stage(config: PipelineConfig, storage: Storage) -> Iterator[str]:
    """What ``run_shard_stage`` would do; nothing is written or rendered."""
    for name in config.datasets_to_shard:
        if is_pinned(config, storage, name):
            yield f"dataset {name}: versions pinned by the recipe, complete; skipped"
        elif (demo := _unrendered(config, name)) is not None:
            yield (
                f"dataset {name}: {demo.train_clips} + {demo.val_clips} clips would be rendered "
                f"into {config.scratch_path}, then sharded by {_makers(config.launch)}"
            )
        else:
            plan = plan_dataset(name, config.datasets[name], config.shard, config.scratch_path)
            for split in plan.splits:
                yield _preview_split(storage, split)
            unfinished = [
                split for split, ref in plan.refs.items() if not storage.exists(ref.manifest_key)
            ]
            if cost := estimate(plan, unfinished):
                yield f"dataset {name}: {cost.describe(_num_workers(config.launch))}"
            if unfinished:
                yield f"dataset {name}: shards are made by {_makers(config.launch)}"
                check_listed(plan, config.shard)


def planned_refs(config: PipelineConfig, name: str) -> list[DatasetRef]:
    """What sharding a dataset would make; nothing where it must be rendered before that is known.

    Raises:
        PipelineError: the dataset cannot be planned.
    """
    if _unrendered(config, name) is not None:
        return []
    plan = plan_dataset(name, config.datasets[name], config.shard, config.scratch_path)
    return list(plan.refs.values())


def is_pinned(config: PipelineConfig, storage: Storage, name: str) -> bool:
    """Whether the recipe itself names complete versions of all splits of a dataset."""
    pins = config.dataset_versions.get(name, {})
    return all(
        split in pins and storage.exists(DatasetRef(name, split, pins[split]).manifest_key)
        for split in config.datasets[name].split_names
    )


def _pinned_refs(config: PipelineConfig, storage: Storage, name: str) -> list[DatasetRef] | None:
    """The complete versions that the recipe names; None where the dataset has to be planned."""
    if not is_pinned(config, storage, name):
        return None
    log.info("Dataset %s: the recipe pins its versions, and they are complete", name)
    pins = config.dataset_versions[name]
    return [DatasetRef(name, split, version) for split, version in pins.items()]


def _plan(config: PipelineConfig, storage: Storage, name: str) -> DatasetPlan:
    plan = plan_dataset(name, config.datasets[name], config.shard, config.scratch_path)
    _explain(config, storage, plan)
    check_listed(plan, config.shard)
    return plan


def _shard(config: PipelineConfig, services: Services, plan: DatasetPlan, *, force: bool) -> None:
    """Makes one dataset, or what is missing of it."""
    make = (
        partial(shard_on_slurm, snapshot=take_snapshot(config, services))
        if config.launch.cluster == "slurm"
        else partial(shard_dataset, workers=config.launch.shard.workers)
    )
    with services.journal("shard") as journal:
        make(
            plan,
            storage=services.storage,
            shard=config.shard,
            journal=journal,
            attempt=services.attempt,
            force=force,
        )


def _explain(config: PipelineConfig, storage: Storage, plan: DatasetPlan) -> None:
    """Says why a dataset that the run has already is made again."""
    before = recorded_versions(storage, config.run_name).get(plan.name, {})
    for split, version in plan.versions.items():
        old = DatasetRef(plan.name, split, before.get(split, version))
        manifest = read_manifest(storage, old)
        if old.version == version or manifest is None:
            continue
        changed = changed_settings(manifest["settings"], config.datasets[plan.name], config.shard)
        log.warning(
            "Dataset %s/%s is stale and made again, as version %s beside %s: %s",
            *(plan.name, split, version, old.version),
            "; ".join(changed) or "its source files, or the shares of its splits, are others",
        )


def _unrendered(config: PipelineConfig, name: str) -> RenderedConfig | None:
    """The demo set that has to be rendered before it can be planned."""
    dataset = config.datasets[name]
    rendered = dataset.rendered or RenderedConfig()
    if DEMO_SOURCE in dataset.sources and not demo_folder(rendered, config.scratch_path).is_dir():
        return rendered
    return None


def _makers(launch: LaunchConfig) -> str:
    workers = _counted(launch.shard.workers, "worker")
    if launch.cluster == "slurm":
        return f"a SLURM array of {launch.shard.tasks} tasks with {workers} each"
    return f"{workers} on this machine"


def _num_workers(launch: LaunchConfig) -> int:
    tasks = launch.shard.tasks if launch.cluster == "slurm" else 1
    return tasks * launch.shard.workers


def _preview_split(storage: Storage, split: SplitPlan) -> str:
    ref = split.ref
    what = (
        f"{_counted(split.num_videos, 'item')}, {split.source_bytes / 1e6:.1f} MB, "
        f"{_counted(len(split.units), 'shard')}"
    )
    if missing := sum(row.reason == "missing_file" for row in split.left_out):
        what += f"; {missing} that the lists name are not there"
    state = "complete; skipped" if storage.exists(ref.manifest_key) else "to be made"
    return f"dataset {ref.name}/{ref.split}: version {ref.version}, {what}; {state}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
