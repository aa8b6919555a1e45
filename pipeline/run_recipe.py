"""The run's own copy of its recipe, with the dataset versions that it uses."""

from collections.abc import Iterable

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.mlflow_run import public_address
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.config import TrackConfig
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.overrides import parse_yaml
from sigma_pipeline.pipeline.services import Services

Versions = dict[str, dict[str, str]]
"""``{dataset: {split: version}}``."""


def recipe_key(run_name: str) -> str:
    """Where it lies."""
    return f"runs/{run_name}/config.yaml"


def recorded_versions(storage: Storage, run_name: str) -> Versions:
    """The dataset versions it names; nothing before the first stage."""
    try:
        text = storage.read(recipe_key(run_name)).decode()
    except FileNotFoundError:
        return {}
    versions: Versions = parse_yaml(text)["dataset_versions"]
    return versions


def resolved_recipe(
    storage: Storage, config: PipelineConfig, refs: Iterable[DatasetRef] = ()
) -> str:
    """The recipe as it is now, with ``refs`` over the versions that the run's record names."""
    before = recorded_versions(storage, config.run_name)
    versions = {name: dict(before.get(name, {})) for name in config.datasets}
    for ref in refs:
        versions[ref.name][ref.split] = ref.version
    resolved = config.model_copy(
        update={
            "dataset_versions": {name: splits for name, splits in versions.items() if splits},
            "track": _without_credentials(config.track),
        }
    )
    return resolved.to_yaml()


def record_recipe(services: Services, config: PipelineConfig, refs: Iterable[DatasetRef]) -> None:
    """Writes the recipe as it is now, with ``refs`` over the versions that it named before."""
    text = resolved_recipe(services.storage, config, refs).encode()
    key = recipe_key(config.run_name)
    if services.storage.exists(key) and services.storage.read(key) == text:
        return
    services.storage.write(key, text)
    with services.journal("recipe") as journal:
        journal.artifact("recipe/config.yaml", key)


def _without_credentials(track: TrackConfig) -> TrackConfig:
    """The record can be read by all who can read the store."""
    uri = track.tracking_uri
    return track if uri is None else track.model_copy(update={"tracking_uri": public_address(uri)})
