"""Model settings: the numbers that follow from them, and what is refused."""

import pytest
from pydantic import ValidationError

from sigma_pipeline.model.config import ModelConfig, SinkhornConfig, TargetConfig


def test_defaults_are_the_shape_of_the_released_runs() -> None:
    config = ModelConfig()

    assert (config.num_slices, config.num_patches, config.num_tokens) == (8, 196, 1568)
    assert (config.num_masked_patches, config.tubelet_dim) == (176, 1536)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frame_size_px": 50}, "frame_size_px=50 is not a multiple of patch_size_px=16"),
        ({"num_frames": 7}, "num_frames=7 is not a multiple of tubelet_frames=2"),
        ({"mask_ratio": 0.001}, "leaves 0 hidden"),
        ({"target": {"kind": "pixels"}}, "target.kind=pixels goes with objective=l2"),
        ({"objective": "l2"}, "target.kind=mlp collapses under objective=l2"),
        ({"target": {"kind": "dino"}}, "teacher is set when, and only when"),
        (
            {"encoder": {"embed_dim": 10, "depth": 1, "num_heads": 3}},
            "embed_dim=10 is not a multiple of num_heads=3",
        ),
        ({"learning_rate": 1}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_disagree_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(settings)


def test_a_temperature_too_low_for_float32_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"greater than or equal to 0\.01"):
        SinkhornConfig(epsilon=0.001)


def test_a_teacher_without_the_dino_target_is_refused() -> None:
    with pytest.raises(ValidationError, match="teacher is set when, and only when"):
        TargetConfig(kind="mlp", teacher="dino_b")


def test_weights_of_a_teacher_without_the_dino_target_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"teacher_weights=/dino\.pth goes with kind='dino'"):
        TargetConfig(kind="mlp", teacher_weights="/dino.pth")


def test_frames_that_the_teacher_cannot_cut_are_refused() -> None:
    target = TargetConfig(kind="dino", teacher="dinov2_s")

    with pytest.raises(ValidationError, match="frame_size_px=160 is not a multiple of the 14 px"):
        ModelConfig(frame_size_px=160, target=target)
