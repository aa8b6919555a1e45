"""Where a run stands, from what lies in the store."""

from collections.abc import Iterator

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.manifest import read_manifest
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import newest_commit
from sigma_pipeline.jobs.shard_summary import list_reasons
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.run_recipe import recorded_versions
from sigma_pipeline.pipeline.training import is_training_finished
from sigma_pipeline.pipeline.training_plan import num_train_samples, total_steps


def describe_run(config: PipelineConfig, storage: Storage) -> Iterator[str]:
    """Lines about the datasets and the training of a run; its scores make a table of their own."""
    yield f"run {config.run_name} in {config.root_uri}"
    recorded = recorded_versions(storage, config.run_name)
    for name, dataset in config.datasets.items():
        for split in dataset.split_names:
            yield f"shard  {_split_state(storage, name, split, recorded.get(name, {}))}"
    yield f"train  {_training_state(config, storage)}"


def _split_state(storage: Storage, name: str, split: str, versions: dict[str, str]) -> str:
    manifest = split in versions and read_manifest(
        storage, DatasetRef(name, split, versions[split])
    )
    if not manifest:
        return f"{name}/{split}: not there yet"
    others = manifest["rejected"] - manifest["rejected_counted"]
    return (
        f"{name}/{split}: {manifest['samples']} samples, {manifest['bytes'] / 1e6:.1f} MB, "
        f"{manifest['rejected_counted']} rejected{list_reasons([manifest])}, {others} other files, "
        f"version {manifest['version']}"
    )


def _training_state(config: PipelineConfig, storage: Storage) -> str:
    commit = newest_commit(storage, config.run_name)
    if commit is None:
        return "not begun"
    if is_training_finished(storage, config.run_name):
        return f"finished at step {commit.step}"
    samples = num_train_samples(config, storage)
    end = f" of {total_steps(config, samples)}" if samples else ""
    return f"committed up to step {commit.step}{end}"
