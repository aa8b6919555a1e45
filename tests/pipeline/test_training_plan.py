"""What a dry run says about training."""

import pytest

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.storage import write_json
from sigma_pipeline.pipeline.config import PipelineConfig, load_config
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.train_schedule import total_steps
from sigma_pipeline.pipeline.training_plan import parameter_count, preview_train_stage


@pytest.mark.parametrize(
    ("recipe", "count"),
    [
        ("ssv2_vit_b_dino", 96_219_264),
        ("ssv2_vit_b_mlp", 98_021_760),
        ("k400_vit_b_dino", 96_219_264),
        ("k400_vit_b_mlp", 98_021_760),
    ],
)
def test_the_papers_models_have_as_many_parameters_as_the_released_weights(
    recipe: str, count: int
) -> None:
    """Counted from the sizes of the published files (protocols, section 9)."""
    assert parameter_count(load_config(recipe).model) == count


@pytest.mark.usefixtures("sharded")
def test_steps_follow_from_the_samples_in_the_store(
    config: PipelineConfig, services: Services
) -> None:
    first, *_, last = preview_train_stage(config, services.storage)

    assert first == "800 epochs in batches of 512 clips of 1030 videos: 1600 steps"
    assert last == "begins at step 0"
    assert total_steps(config, {"clips": 1030}) == 1600


def test_of_a_mixture_the_length_of_an_epoch_and_the_shares_are_said(
    recipe_path: str, services: Services
) -> None:
    for name, samples in (("long", 4000), ("short", 300)):
        ref = DatasetRef(name, "train", "v1")
        manifest = {"version": "v1", "settings": {}, "samples": samples}
        write_json(services.storage, ref.manifest_key, manifest)
    overrides = [f"datasets.{name}.source=/{name}" for name in ("long", "short")]
    mixing = load_config(recipe_path, [*overrides, "train.dataset={long: 3, short: 1}"])

    schedule, epoch, *_ = preview_train_stage(mixing, services.storage)

    assert schedule == "800 epochs in batches of 512 clips of 4300 videos: 1600 steps"
    assert epoch == (
        "an epoch has 1200 clips: 900 (75 %) from the 4000 videos of long, "
        "300 (25 %) from the 300 videos of short"
    )


@pytest.mark.usefixtures("sharded")
def test_several_clips_of_a_video_make_an_epoch_longer(
    recipe_path: str, services: Services
) -> None:
    repeating = load_config(recipe_path, ["train.clip.clips_per_decode=4"])

    schedule, epoch, *_ = preview_train_stage(repeating, services.storage)

    assert schedule == "800 epochs in batches of 512 clips of 1030 videos: 6400 steps"
    assert epoch == "an epoch has 4120 clips: 4120 (100 %) from the 1030 videos of clips"


def test_without_the_dataset_steps_are_not_guessed(
    config: PipelineConfig, services: Services
) -> None:
    first, *_, last = preview_train_stage(config, services.storage)

    assert "is known once clips is sharded" in first
    assert last == "begins when the dataset is there"
