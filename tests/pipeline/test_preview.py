"""A preview says what a run would do, what it lacks, and ends as the run would."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import ConfigError, MissingInputError, PipelineError, StageError
from sigma_pipeline.infra.storage import write_json
from sigma_pipeline.pipeline.config import PipelineConfig, load_config
from sigma_pipeline.pipeline.preview import preview
from sigma_pipeline.pipeline.run_recipe import record_recipe
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.sharding import planned_refs
from sigma_pipeline.pipeline.stage_names import StageName

TRAIN_AND_EVALUATE = (StageName.TRAIN, StageName.EVALUATE)


def told(
    names: Sequence[StageName], config: PipelineConfig, **options: bool
) -> tuple[list[str], PipelineError | None]:
    """All lines of a preview, and the error at its end."""
    lines = []
    try:
        for line in preview(names, config, **options):
            lines.append(line)
    except PipelineError as error:
        return lines, error
    return lines, None


def test_a_preview_says_what_cannot_run_and_writes_nothing(
    config: PipelineConfig, services: Services
) -> None:
    lines, error = told(tuple(StageName), config)

    assert lines[0].startswith("shard: cannot run: source")
    assert any("94,278,400" in line or "parameters" in line for line in lines)
    assert isinstance(error, MissingInputError)
    assert lines[0].endswith(str(error))
    assert services.storage.list("") == []


def test_what_an_earlier_stage_of_the_preview_makes_is_not_missing(
    config: PipelineConfig, tmp_path: Path
) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"not read yet")

    together, alone = told(tuple(StageName), config), told([StageName.TRAIN], config)

    assert together[1] is None
    assert not any("cannot run" in line for line in together[0])
    assert isinstance(alone[1], MissingInputError)
    assert alone[0][-1] == f"train: cannot run: {alone[1]}"


@pytest.fixture
def source(config: PipelineConfig) -> Path:
    """Videos to be listed; none is opened."""
    folder = Path(config.datasets["clips"].sources[0])
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"not read yet")
    return folder


@pytest.mark.usefixtures("source")
def test_a_pinned_version_is_missing_unless_sharding_makes_that_one(
    recipe_path: str, config: PipelineConfig
) -> None:
    (planned,) = (ref for ref in planned_refs(config, "clips") if ref.split == "train")
    other, same = (
        load_config(recipe_path, [f"dataset_versions.clips.train={version}"])
        for version in ("0123456789abcdef", planned.version)
    )

    lines, error = told((StageName.SHARD, StageName.TRAIN), other)

    assert isinstance(error, MissingInputError)
    assert lines[-1] == f"train: cannot run: {error}"
    assert "0123456789abcdef/manifest.json" in str(error)
    assert told((StageName.SHARD, StageName.TRAIN), same)[1] is None


@pytest.mark.usefixtures("source", "sharded")
def test_a_pinned_version_in_the_store_is_not_missing_whatever_sharding_makes(
    recipe_path: str,
) -> None:
    pinning = load_config(recipe_path, ["dataset_versions.clips.train=v1"])

    assert told((StageName.SHARD, StageName.TRAIN), pinning)[1] is None


def test_a_pinned_version_of_a_demo_is_missing_and_nothing_is_rendered_to_tell(
    tmp_path: Path,
) -> None:
    pin = "dataset_versions.demo.train=0123456789abcdef"
    places = [f"root_uri={tmp_path}/store", f"scratch_dir={tmp_path}/scratch"]
    config = load_config("demo", [pin, *places])

    _, error = told(tuple(StageName), config)

    assert isinstance(error, MissingInputError)
    assert not (tmp_path / "scratch").exists()


def test_a_pinned_version_without_a_source_to_make_it_from_is_told_by_both_stages(
    recipe_path: str,
) -> None:
    pinning = load_config(recipe_path, ["dataset_versions.clips.train=0123456789abcdef"])

    lines, _ = told((StageName.SHARD, StageName.TRAIN), pinning)

    assert [line.split()[:5] for line in (lines[0], lines[-1])] == [
        ["shard:", "cannot", "run:", "source", f"'{pinning.datasets['clips'].source}'"],
        ["train:", "cannot", "run:", "dataset", "'clips',"],
    ]


@pytest.mark.usefixtures("source")
def test_versions_to_choose_from_are_told_once_and_not_where_sharding_chooses(
    config: PipelineConfig, services: Services
) -> None:
    for version in ("one", "two"):
        key = DatasetRef("clips", "train", version).manifest_key
        write_json(services.storage, key, {"version": version, "settings": {}, "samples": 9})

    lines, error = told([StageName.TRAIN], config)

    assert isinstance(error, StageError)
    assert [line for line in lines if "cannot run" in line] == [f"train: cannot run: {error}"]
    assert "VERSION: one, two" in str(error)
    assert told((StageName.SHARD, StageName.TRAIN), config)[1] is None


@pytest.mark.usefixtures("source")
def test_a_version_that_the_run_has_recorded_and_lost_is_made_again(
    config: PipelineConfig, services: Services
) -> None:
    record_recipe(services, config, [DatasetRef("clips", "train", "lost")])

    assert told((StageName.SHARD, StageName.TRAIN), config)[1] is None
    assert isinstance(told([StageName.TRAIN], config)[1], MissingInputError)


def test_a_dataset_that_the_shard_stage_leaves_out_is_missing(
    recipe_path: str, tmp_path: Path
) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"not read yet")
    mixture = "train.dataset={clips: 1, birds: 1}"
    overrides = ["datasets.birds.source=/b", mixture, "shard.datasets=[clips]"]
    config = load_config(recipe_path, overrides)

    _, error = told((StageName.SHARD, StageName.TRAIN), config)

    assert isinstance(error, MissingInputError)
    assert "dataset 'birds', split 'train', has not been sharded" in str(error)


@pytest.mark.usefixtures("sharded")
def test_evaluation_alone_misses_a_commit_unless_it_follows_a_training(
    config: PipelineConfig, services: Services, commit: Callable[[int], None]
) -> None:
    assert "has no commit to evaluate" in str(told([StageName.EVALUATE], config)[1])
    assert told([StageName.EVALUATE], config, follow=True)[1] is None
    assert told(TRAIN_AND_EVALUATE, config)[1] is None

    commit(0)

    assert told([StageName.EVALUATE], config)[1] is None


@pytest.mark.usefixtures("sharded")
def test_following_a_training_that_ended_without_a_commit_misses_one(
    config: PipelineConfig, services: Services
) -> None:
    write_json(services.storage, "runs/trial/train/manifest.json", {})

    assert "has no commit" in str(told([StageName.EVALUATE], config, follow=True)[1])


def test_a_preview_ends_with_what_is_checked_before_any_stage_starts(recipe_path: str) -> None:
    cells = "[{benchmark: knn, dataset: clips, settings: {kk: 3}}]"
    config = load_config(recipe_path, [f"evaluate.cells={cells}"])

    lines, error = told(tuple(StageName), config)

    assert isinstance(error, ConfigError)
    assert lines[0].startswith("shard: cannot run: source")
    assert f"evaluate: cannot run: {error}" in lines
