"""Which version of each dataset a run uses."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.manifest import read_manifest
from sigma_pipeline.infra.errors import MissingInputError, StageError
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.run_recipe import recorded_versions

log = logging.getLogger(__name__)


def resolve_refs(
    storage: Storage,
    config: PipelineConfig,
    splits: Iterable[tuple[str, str]],
    *,
    promised: Collection[DatasetRef] = (),
) -> dict[tuple[str, str], DatasetRef]:
    """The finished version of each (dataset, split).

    Taken from the recipe if it pins one, from the run's record, or from the store if that has a
    single one made with the recipe's settings.

    Args:
        storage: where versions lie.
        config: of the run.
        splits: which are asked for.
        promised: versions that need not be finished yet, as jobs that were submitted make them.

    Raises:
        MissingInputError: there is none; names the command that makes it.
    """
    recorded = recorded_versions(storage, config.run_name)
    refs = {}
    for name, split in dict.fromkeys(splits):
        version = config.dataset_versions.get(name, {}).get(split)
        version = version or recorded.get(name, {}).get(split)
        version = version or _only_version(storage, config, name, split)
        refs[name, split] = DatasetRef(name, split, version)
        if refs[name, split] not in promised:
            _require_finished(storage, config, refs[name, split])
    return refs


def version_of(refs: Sequence[DatasetRef]) -> str | dict[str, str]:
    """The version of the only one; of several, by dataset."""
    return refs[0].version if len(refs) == 1 else {ref.name: ref.version for ref in refs}


def changed_settings(
    recorded: Mapping[str, Any], dataset: DatasetConfig, shard: ShardConfig
) -> list[str]:
    """``key: old -> new`` for settings that a version was made with and that are others now."""
    now = shard.model_dump(mode="json") | dataset.model_dump(mode="json")
    return [
        f"{key}: {old} -> {now[key]}"
        for key, old in recorded.items()
        if key in now and now[key] != old
    ]


def _require_finished(storage: Storage, config: PipelineConfig, ref: DatasetRef) -> None:
    manifest = read_manifest(storage, ref)
    if manifest is None:
        raise MissingInputError(
            f"dataset '{ref.name}', split '{ref.split}', is not complete: there is no "
            f"{storage.uri(ref.manifest_key)}; {_remedy(config, ref.name)}"
        )
    changed = changed_settings(manifest["settings"], config.datasets[ref.name], config.shard)
    if changed:
        log.warning(
            "Dataset %s/%s was made with other settings than the recipe has now (%s); "
            "--stage shard makes a version with these",
            ref.name,
            ref.split,
            "; ".join(changed),
        )


def _only_version(storage: Storage, config: PipelineConfig, name: str, split: str) -> str:
    """The one finished version whose settings are those of the recipe."""
    found = []
    for key in storage.list(f"datasets/{name}/{split}"):
        if key.endswith("/manifest.json"):
            manifest = read_json(storage, key)
            if not changed_settings(manifest["settings"], config.datasets[name], config.shard):
                found.append(str(manifest["version"]))
    if not found:
        raise MissingInputError(
            f"dataset '{name}', split '{split}', has not been sharded into {storage.root_uri} with "
            f"these settings; {_remedy(config, name)}"
        )
    if len(found) > 1:
        raise StageError(
            f"dataset '{name}', split '{split}', has {len(found)} versions with these settings; "
            f"choose one with --set dataset_versions.{name}.{split}=VERSION: {', '.join(found)}"
        )
    return found[0]


def _remedy(config: PipelineConfig, name: str) -> str:
    return (
        "make it with: sigma-pipeline run --stage shard "
        f"--set 'shard.datasets=[{name}]' and the --config and --set of run '{config.run_name}'"
    )
