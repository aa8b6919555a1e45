"""Operations of a step; those of an ``mlp`` target are held against PyTorch's count in bench."""

import pytest

from sigma_pipeline.model.config import ModelConfig, TargetConfig
from sigma_pipeline.model.flops import backward_flops, forward_flops
from sigma_pipeline.model.teacher_shapes import TeacherName


@pytest.mark.parametrize(("teacher", "published"), [("dino_s", 4.6e9), ("dino_b", 17.5e9)])
def test_a_frozen_teacher_costs_its_published_number_a_frame_and_no_gradient(
    teacher: TeacherName, published: float
) -> None:
    config = ModelConfig(target=TargetConfig(kind="dino", teacher=teacher))

    of_clip = forward_flops(config, 1)["target"]

    # Published are multiplications: of DeiT (2021), which has the same shapes.
    assert of_clip / 2 / config.num_slices == pytest.approx(published, rel=0.03)
    assert backward_flops(config, 1)["target"] == 0


def test_pixels_cost_nothing_to_make_and_are_predicted_at_their_width() -> None:
    pixels = ModelConfig(target=TargetConfig(kind="pixels"), objective="l2")
    learned = ModelConfig()

    forward, other = forward_flops(pixels, 2), forward_flops(learned, 2)

    assert forward["target"] == forward["scores"] == 0
    hidden = pixels.num_slices * pixels.num_masked_patches
    assert forward["decoder"] - other["decoder"] == 2 * 2 * hidden * 384 * (1536 - 256)
    assert backward_flops(pixels, 2)["decoder"] == 2 * forward["decoder"]
