"""Which version a stage reads: the pinned one, the run's, or the only one that fits."""

from typing import Any

import pytest

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import MissingInputError, StageError
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.run_recipe import record_recipe, recorded_versions
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.versions import changed_settings, resolve_refs

TRAIN = ("clips", "train")


def finish(storage: Storage, config: PipelineConfig, version: str, **settings: Any) -> DatasetRef:
    """Puts the manifest of a version made with the recipe's settings but for ``settings``."""
    made_with = {"format": 1, "min_frames": 2, "samples_per_shard": 256, "media": "copy"}
    ref = DatasetRef(*TRAIN, version)
    write_json(storage, ref.manifest_key, {"version": version, "settings": made_with | settings})
    return ref


def test_the_only_version_with_the_recipes_settings_is_found(
    config: PipelineConfig, services: Services
) -> None:
    finish(services.storage, config, "other", min_frames=9)
    fitting = finish(services.storage, config, "fitting")

    assert resolve_refs(services.storage, config, [TRAIN]) == {TRAIN: fitting}


def test_the_runs_own_record_wins_over_other_versions_that_fit(
    config: PipelineConfig, services: Services
) -> None:
    finish(services.storage, config, "later")
    used = finish(services.storage, config, "used")
    record_recipe(services, config, [used])

    assert resolve_refs(services.storage, config, [TRAIN]) == {TRAIN: used}


def test_a_version_pinned_by_the_recipe_wins_over_the_record(
    config: PipelineConfig, services: Services
) -> None:
    record_recipe(services, config, [finish(services.storage, config, "used")])
    pinned = finish(services.storage, config, "pinned")
    pinning = config.model_copy(update={"dataset_versions": {"clips": {"train": "pinned"}}})

    assert resolve_refs(services.storage, pinning, [TRAIN]) == {TRAIN: pinned}


def test_a_dataset_that_was_never_sharded_names_the_command_that_does_it(
    config: PipelineConfig, services: Services
) -> None:
    with pytest.raises(MissingInputError, match="sigma-pipeline run --stage shard"):
        resolve_refs(services.storage, config, [TRAIN])


def test_a_recorded_version_that_is_incomplete_is_missing(
    config: PipelineConfig, services: Services
) -> None:
    record_recipe(services, config, [DatasetRef(*TRAIN, "begun")])

    with pytest.raises(MissingInputError, match=r"is not complete.*begun/manifest\.json"):
        resolve_refs(services.storage, config, [TRAIN])


def test_several_versions_that_fit_are_for_the_user_to_choose_from(
    config: PipelineConfig, services: Services
) -> None:
    finish(services.storage, config, "one")
    finish(services.storage, config, "two")

    with pytest.raises(StageError, match=r"dataset_versions\.clips\.train=VERSION: one, two"):
        resolve_refs(services.storage, config, [TRAIN])


def test_a_version_made_with_other_settings_is_used_with_a_warning(
    config: PipelineConfig, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    record_recipe(services, config, [finish(services.storage, config, "old", min_frames=9)])

    resolve_refs(services.storage, config, [TRAIN])

    assert "min_frames: 9 -> 2" in caplog.text


def test_only_settings_of_the_dataset_and_of_sharding_are_compared(config: PipelineConfig) -> None:
    recorded = {"format": 7, "min_frames": 3, "bytes_per_shard": config.shard.bytes_per_shard}

    changed = changed_settings(recorded, config.datasets["clips"], config.shard)

    assert changed == ["min_frames: 3 -> 2"]


def test_the_runs_recipe_keeps_versions_of_splits_that_are_not_made_again(
    config: PipelineConfig, services: Services
) -> None:
    record_recipe(
        services, config, [DatasetRef("clips", "train", "a"), DatasetRef("clips", "val", "b")]
    )
    record_recipe(services, config, [DatasetRef("clips", "train", "c")])

    recorded = recorded_versions(services.storage, config.run_name)

    assert recorded == {"clips": {"train": "c", "val": "b"}}


def test_an_unchanged_recipe_is_not_written_again(
    config: PipelineConfig, services: Services
) -> None:
    record_recipe(services, config, [DatasetRef("clips", "train", "a")])
    before = services.storage.list("runs")

    record_recipe(services, config, [DatasetRef("clips", "train", "a")])

    assert services.storage.list("runs") == before
