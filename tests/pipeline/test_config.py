"""Loading a recipe: what is taken, what is refused, and in which words."""

from pathlib import Path

import pytest
import yaml

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.pipeline.config import load_config
from sigma_pipeline.pipeline.recipe_files import recipe_names


def problems_of(recipe: str, *overrides: str) -> list[str]:
    """The lines of the error, without the first one, which counts them."""
    with pytest.raises(ConfigError) as caught:
        load_config(recipe, overrides)
    count, *lines = str(caught.value).split("\n")
    assert count == f"{recipe}: {len(lines)} problem{'s' if len(lines) > 1 else ''}"
    return [line.strip() for line in lines]


def test_a_minimal_recipe_gets_the_defaults_of_every_section(recipe_path: str) -> None:
    config = load_config(recipe_path)

    assert config.model.prototypes == 4000
    assert config.launch.cluster == "local"
    assert config.datasets_to_shard == ("clips",)


def test_the_resolved_recipe_reads_back_as_the_same_configuration(
    tmp_path: Path, recipe_path: str
) -> None:
    config = load_config(recipe_path, ["train.epochs=7", "shard.source=/videos"])
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(config.to_yaml())

    assert load_config(str(resolved)) == config


@pytest.mark.parametrize("name", recipe_names())
def test_every_packaged_recipe_loads_and_names_its_run_after_itself(name: str) -> None:
    assert load_config(name).run_name == name


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("sed=1", "sed: unknown key; did you mean 'seed'?"),
        ("model.prototype=9", "model.prototype: unknown key; did you mean 'prototypes'?"),
        (
            "datasets.clips.sources=/a",
            "datasets.clips.sources: unknown key; did you mean 'source'?",
        ),
        (
            "track.zzz=1",
            "track.zzz: unknown key; known here: experiment, tracking_uri",
        ),
        ("train.epochs=0", "train.epochs: input should be greater than 0 (got 0)"),
        (
            "train.epochs=many",
            "train.epochs: input should be a valid integer, unable to parse string as an integer "
            "(got 'many')",
        ),
        (
            "shard.source=3",
            "shard.source: input should be a valid string (got 3), "
            "or input should be a valid tuple (got 3)",
        ),
        (
            "run_name=a/b",
            "run_name: a name has letters, digits, '.', '_' and '-' only (got 'a/b')",
        ),
        (
            "datasets.a b.source=/a",
            "datasets.a b: a name has letters, digits, '_' and '-' only (got 'a b')",
        ),
        ("model.num_frames=9", "model: num_frames=9 is not a multiple of tubelet_frames=2"),
        (
            "train.dataset=clip",
            "train.dataset: no dataset 'clip' in this recipe; it has: clips",
        ),
        ("train.split=dev", "train: dataset 'clips' has no split 'dev'; it has: train, val"),
        (
            "train.dataset={clips: 3, clip: 1}",
            "train.dataset: no dataset 'clip' in this recipe; it has: clips",
        ),
        (
            "train.dataset={clips: 0}",
            "train.dataset: input should be a valid string, or input should be greater than or "
            "equal to 0.000001 (got 0)",
        ),
        ("shard.datasets=[x]", "shard.datasets: no dataset 'x' in this recipe; it has: clips"),
        (
            "evaluate.cells=[{benchmark: knn, dataset: clips, test_split: dev}]",
            "evaluate.cells.0: dataset 'clips' has no split 'dev'; it has: train, val",
        ),
        (
            "evaluate.cells=[{benchmark: knn, dataset: clips, every: 2, best: 1}]",
            "evaluate.cells.0: every and best exclude each other: set one of them",
        ),
        (
            "evaluate.supervised.dataset=x",
            "evaluate.supervised.dataset: no dataset 'x' in this recipe; it has: clips",
        ),
        (
            "train.optimizer.warmup_epochs=900",
            "train.optimizer.warmup_epochs: 900 is longer than the schedule of 800 epochs",
        ),
        (
            "train.optimizer.schedule_epochs=100",
            "train.optimizer.schedule_epochs: 100 ends before train.epochs=800 do",
        ),
        (
            "train.micro_batch_clips=30",
            "train.micro_batch_clips: train.global_batch_clips=512 is not a multiple of 30",
        ),
        (
            "datasets.clips.rendered.frames=8",
            "datasets.clips.rendered: goes with source demo:// only; set it to null, or use "
            "shard.source",
        ),
        (
            "root_uri=gs://bucket",
            "root_uri: gs://bucket: a store is a folder or s3://bucket/prefix",
        ),
    ],
)
def test_one_wrong_setting_is_named_in_one_line(
    recipe_path: str, override: str, problem: str
) -> None:
    assert problems_of(recipe_path, override) == [problem]


def test_all_problems_are_reported_at_once(recipe_path: str) -> None:
    lines = problems_of(recipe_path, "model.depht=2", "train.epochs=0", "seed", "launch.cluster=a")

    assert [line.partition(":")[0] for line in lines] == [
        "--set 'seed'",
        "model.depht",
        "train.epochs",
        "launch.cluster",
    ]


def test_sections_that_disagree_are_all_reported_at_once(recipe_path: str) -> None:
    lines = problems_of(recipe_path, "train.dataset=x", "train.optimizer.warmup_epochs=900")

    assert [line.partition(":")[0] for line in lines] == [
        "train.dataset",
        "train.optimizer.warmup_epochs",
    ]


def test_a_store_on_s3_needs_a_shared_work_folder_on_a_cluster(recipe_path: str) -> None:
    on_slurm = ("root_uri=s3://bucket/sigma", "launch.cluster=slurm")

    assert problems_of(recipe_path, *on_slurm) == [
        "work_dir: name a folder that all nodes share; the store is no folder"
    ]
    assert load_config(recipe_path, [*on_slurm, "work_dir=/shared"]).work_path == Path("/shared")


def test_a_missing_section_is_required_by_name(tmp_path: Path) -> None:
    recipe = tmp_path / "empty.yaml"
    recipe.write_text("")

    assert problems_of(str(recipe)) == [
        "run_name: is required",
        "root_uri: is required",
        "datasets: is required",
        "train: is required",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "a recipe is a mapping, not a list"),
        ("a: [1\n", "not valid YAML"),
        ("seed: 1\nseed: 2\n", "key 'seed' is written twice"),
        ("a: &x {b: 1}\nc: *x\n", "write the value out instead of using an alias"),
        ("a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    recipe = tmp_path / "odd.yaml"
    recipe.write_text(text)

    with pytest.raises(ConfigError, match=message):
        load_config(str(recipe))


def test_a_misspelt_recipe_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'dmo' \(did you mean 'demo'\?\)"):
        load_config("dmo")


def test_a_missing_recipe_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^\./missing\.yaml: no such recipe file$"):
        load_config("./missing.yaml")


def test_shard_source_takes_the_place_of_the_first_dataset_and_of_its_rendering() -> None:
    config = load_config("demo", ["shard.source=/my/videos"])

    assert config.datasets["demo"].sources == ("/my/videos",)
    assert config.datasets["demo"].rendered is None


def test_a_relative_store_is_made_absolute(
    recipe_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    config = load_config(recipe_path, ["root_uri=here"])

    assert config.root_uri == str(tmp_path / "here")
    assert config.work_path == tmp_path / "here" / "work"


def test_the_resolved_recipe_is_plain_yaml(recipe_path: str) -> None:
    values = yaml.safe_load(load_config(recipe_path).to_yaml())

    assert values["train"]["optimizer"]["betas"] == [0.9, 0.95]


def test_options_of_sbatch_that_the_launcher_sets_are_refused_by_their_key(
    recipe_path: str,
) -> None:
    overrides = ["launch.sbatch={time: 5, mail-type: FAIL, qos: long}"]

    with pytest.raises(ConfigError, match="2 problems") as caught:
        load_config(recipe_path, overrides)

    assert "launch.sbatch.time: is set by the launcher; use launch.train.timeout_min" in str(
        caught.value
    )
    assert "launch.sbatch.qos: is set by the launcher; use launch.qos" in str(caught.value)
