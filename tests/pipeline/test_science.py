"""What touches the science of a training run, and what does not."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sigma_pipeline.pipeline.config import load_config
from sigma_pipeline.pipeline.science import (
    completed,
    differences,
    headline,
    science_fingerprint,
    training_settings,
)

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(recipe_path: str) -> Settings:
    """Training settings of the small recipe with overrides."""

    def build(*overrides: str, version: str = "v1") -> dict[str, Any]:
        return training_settings(load_config(recipe_path, overrides), version)

    return build


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed=1", "seed: 0 -> 1"),
        ("model.prototypes=7", "model.prototypes: 4000 -> 7"),
        ("train.optimizer.weight_decay=0.1", "train.optimizer.weight_decay: 0.05 -> 0.1"),
        ("train.clip.frame_stride=3", "train.clip.frame_stride: 2 -> 3"),
        ("train.precision=fp32", "train.precision: bf16_autocast -> fp32"),
    ],
)
def test_another_setting_of_the_science_is_another_fingerprint(
    settings: Settings, override: str, line: str
) -> None:
    before, now = settings(), settings(override)

    assert science_fingerprint(before) != science_fingerprint(now)
    assert differences(before, now) == ([line], [])


@pytest.mark.parametrize(
    "override",
    [
        "train.dataset={clips: 2}",
        "train.clip.clips_per_decode=2",
        "train.clip.starts=any",
        "train.clip.sampling=segments",
        "train.clip.augment.operations=2",
        "train.loader.order_window_shards=8",
    ],
)
def test_whatever_changes_which_clips_are_seen_is_science(
    settings: Settings, override: str
) -> None:
    touching, harmless = differences(settings(), settings(override))

    assert touching
    assert harmless == []
    assert science_fingerprint(settings()) != science_fingerprint(settings(override))


def test_the_weights_of_a_mixture_and_its_versions_are_told_one_by_one(settings: Settings) -> None:
    before = settings("train.dataset={a: 1, b: 2}", "datasets.a.source=/a", "datasets.b.source=/b")
    before["dataset_version"] = {"a": "v1", "b": "v7"}
    now = copy.deepcopy(before)
    now["train"]["dataset"]["b"] = 3.0
    now["dataset_version"]["a"] = "v2"

    assert differences(before, now) == (
        ["dataset_version.a: v1 -> v2", "train.dataset.b: 2.0 -> 3.0"],
        [],
    )
    assert headline(now)["train.dataset"] == "a 1.0, b 3.0"
    assert headline(now)["dataset_version"] == "a v2, b v7"


def test_another_version_of_the_data_is_other_science(settings: Settings) -> None:
    touching, _ = differences(settings(), settings(version="v2"))

    assert touching == ["dataset_version: v1 -> v2"]


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("train.loader.workers=7", "train.loader.workers"),
        ("train.loader.read_threads=7", "train.loader.read_threads"),
        ("train.loader.range_cache_gib=7", "train.loader.range_cache_gib"),
        ("train.loader.max_bad_fraction=0.7", "train.loader.max_bad_fraction"),
        ("train.commit_every_steps=7", "train.commit_every_steps"),
        ("train.log_every_steps=7", "train.log_every_steps"),
        ("train.keep_last=7", "train.keep_last"),
        ("train.micro_batch_clips=2", "train.micro_batch_clips"),
    ],
)
def test_a_setting_without_effect_keeps_the_fingerprint_and_is_still_named(
    settings: Settings, override: str, key: str
) -> None:
    before, now = settings(), settings(override)

    touching, harmless = differences(before, now)

    assert science_fingerprint(before) == science_fingerprint(now)
    assert touching == []
    assert [line.partition(":")[0] for line in harmless] == [key]


@pytest.mark.parametrize(
    "override", ["launch.train.cpu_processes=1", "track.experiment=x", "evaluate.cells=[]"]
)
def test_where_it_runs_and_what_is_measured_is_no_training_setting(
    settings: Settings, override: str
) -> None:
    assert settings(override) == settings()


def test_cutting_the_batch_is_science_where_assignments_are_balanced_per_micro_batch(
    settings: Settings,
) -> None:
    per_micro_batch = "model.sinkhorn.scope=micro_batch"
    before, now = settings(per_micro_batch), settings(per_micro_batch, "train.micro_batch_clips=2")

    touching, _ = differences(before, now)

    assert [line.partition(":")[0] for line in touching] == ["train.micro_batch_clips"]


def test_a_record_without_a_newer_key_counts_as_its_default(settings: Settings) -> None:
    recorded = settings()
    del recorded["train"]["optimizer"]["gradient_clip_norm"]
    del recorded["model"]["temperature"]

    assert science_fingerprint(completed(recorded)) == science_fingerprint(settings())


def test_a_setting_recorded_under_its_old_name_is_the_one_of_now(settings: Settings) -> None:
    recorded = settings("train.keep_last=5")
    train = recorded["train"]
    train["keep_optimizer_commits"] = train.pop("keep_last")

    assert completed(recorded) == settings("train.keep_last=5")
