"""The shard stage: every dataset of the recipe brought to the store, and its version recorded."""

import logging
from collections.abc import Iterator

from sigma_pipeline.data_prep.config import RenderedConfig
from sigma_pipeline.data_prep.demo import demo_folder
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.manifest import read_manifest
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.shard import DatasetPlan, SplitPlan, plan_dataset, shard_dataset
from sigma_pipeline.pipeline.config import DEMO_SOURCE, PipelineConfig
from sigma_pipeline.pipeline.run_recipe import record_recipe, recorded_versions
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.versions import changed_settings

log = logging.getLogger(__name__)


def run_shard_stage(config: PipelineConfig, services: Services, *, force: bool) -> None:
    """Shards what is not there yet; with ``force`` everything.

    Raises:
        MissingInputError: a source is missing or empty.
        StageError: too many inputs had to be rejected.
    """
    for name in config.datasets_to_shard:
        if not force and is_pinned(config, services.storage, name):
            log.info("Dataset %s: the recipe pins its versions, and they are complete", name)
            pins = config.dataset_versions[name]
            refs = [DatasetRef(name, split, version) for split, version in pins.items()]
        else:
            refs = _shard(config, services, name, force=force)
        record_recipe(services, config, refs)


def preview_shard_stage(config: PipelineConfig, storage: Storage) -> Iterator[str]:
    """What ``run_shard_stage`` would do; nothing is written or rendered."""
    for name in config.datasets_to_shard:
        if is_pinned(config, storage, name):
            yield f"dataset {name}: versions pinned by the recipe, complete; skipped"
        elif (demo := _unrendered(config, name)) is not None:
            yield (
                f"dataset {name}: {demo.train_clips} + {demo.val_clips} clips would be rendered "
                f"into {config.scratch_path}, then sharded"
            )
        else:
            plan = plan_dataset(name, config.datasets[name], config.shard, config.scratch_path)
            for split in plan.splits:
                yield _preview_split(storage, split)


def is_pinned(config: PipelineConfig, storage: Storage, name: str) -> bool:
    """Whether the recipe itself names complete versions of all splits of a dataset."""
    pins = config.dataset_versions.get(name, {})
    return all(
        split in pins and storage.exists(DatasetRef(name, split, pins[split]).manifest_key)
        for split in config.datasets[name].splits
    )


def _shard(
    config: PipelineConfig, services: Services, name: str, *, force: bool
) -> list[DatasetRef]:
    """Makes one dataset, or what is missing of it; its splits."""
    storage = services.storage
    plan = plan_dataset(name, config.datasets[name], config.shard, config.scratch_path)
    _explain(config, storage, plan)
    with services.journal("shard") as journal:
        shard_dataset(
            plan,
            storage=storage,
            shard=config.shard,
            workers=config.launch.shard.workers,
            journal=journal,
            attempt=services.attempt,
            force=force,
        )
    return list(plan.refs.values())


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


def _preview_split(storage: Storage, split: SplitPlan) -> str:
    ref = split.ref
    what = (
        f"{split.num_videos} files, {split.source_bytes / 1e6:.1f} MB, "
        f"{len(split.units)} shard{'s' if len(split.units) != 1 else ''}"
    )
    state = "complete; skipped" if storage.exists(ref.manifest_key) else "to be made"
    return f"dataset {ref.name}/{ref.split}: version {ref.version}, {what}; {state}"
