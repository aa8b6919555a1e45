"""What a dry run says about training."""

import pytest

from sigma_pipeline.pipeline.config import PipelineConfig, load_config
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.training_plan import (
    parameter_count,
    preview_train_stage,
    total_steps,
)


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
    assert total_steps(config, 1030) == 1600


def test_without_the_dataset_steps_are_not_guessed(
    config: PipelineConfig, services: Services
) -> None:
    first, *_, last = preview_train_stage(config, services.storage)

    assert "is known once clips is sharded" in first
    assert last == "begins when the dataset is there"
