"""What shapes show, and where they are not those of a recipe."""

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.encoder import Encoder
from sigma_pipeline.model.sigma import Sigma
from sigma_pipeline.model.state_settings import differences, encoder_config, shown_settings


@pytest.fixture
def published() -> dict[str, Tensor]:
    """Shapes of the released ViT-B with a projection network."""
    with torch.device("meta"):
        return dict(Sigma(ModelConfig()).state_dict())


def test_the_settings_of_the_released_model_are_seen(published: dict[str, Tensor]) -> None:
    assert shown_settings(published) == {
        "tubelet_frames": 2,
        "patch_size_px": 16,
        "encoder": {"embed_dim": 768, "depth": 12, "mlp_ratio": 4.0, "num_heads": 12},
        "decoder": {"embed_dim": 384, "depth": 4, "mlp_ratio": 4.0, "num_heads": 6},
        "objective": "sigma",
        "prototypes": 4000,
        "target": {"kind": "mlp", "hidden_dims": (1024, 1024, 512), "dim": 256},
    }
    assert differences(ModelConfig(), published, shown_settings(published)) == []


def test_weights_with_a_teachers_width_fit_that_teacher_only(
    published: dict[str, Tensor],
) -> None:
    dino = {name: t for name, t in published.items() if not name.startswith("head.")}
    dino |= {
        "prototypes": torch.empty(3000, 768, device="meta"),
        "decoder.head.weight": torch.empty(768, 384, device="meta"),
        "decoder.head.bias": torch.empty(768, device="meta"),
    }
    shown = shown_settings(dino)

    def with_teacher(teacher: str) -> ModelConfig:
        target = {"kind": "dino", "teacher": teacher}
        return ModelConfig.model_validate({"target": target, "prototypes": 3000})

    assert differences(with_teacher("dino_b"), dino, shown) == []
    assert differences(with_teacher("dino_s"), dino, shown) == [
        "model.target: recipe dino_s, 384 wide, file predicts 768 numbers"
    ]
    assert differences(ModelConfig(prototypes=3000), dino, shown) == [
        "model.target.kind: recipe mlp, file has no projection network (head.*)"
    ]


def test_all_differences_from_a_recipe_are_listed(
    config: ModelConfig, published: dict[str, Tensor]
) -> None:
    assert differences(config, published, shown_settings(published)) == [
        "model.patch_size_px: recipe 8, file 16",
        "model.encoder.embed_dim: recipe 48, file 768",
        "model.encoder.depth: recipe 2, file 12",
        "model.encoder.num_heads: recipe 3, file 12",
        "model.decoder.embed_dim: recipe 32, file 384",
        "model.decoder.depth: recipe 1, file 4",
        "model.decoder.num_heads: recipe 2, file 6",
        "model.prototypes: recipe 24, file 4000",
        "model.target.hidden_dims: recipe (64, 32), file (1024, 1024, 512)",
        "model.target.dim: recipe 16, file 256",
    ]


def test_videomaes_weights_fit_the_pixel_baseline(pixel_config: ModelConfig) -> None:
    state = Sigma(pixel_config).state_dict()

    assert differences(pixel_config, state, shown_settings(state)) == []


def test_tensors_that_this_encoder_does_not_have_are_named(
    config: ModelConfig, state: dict[str, Tensor]
) -> None:
    state["encoder.blocks.0.gamma_1"] = state.pop("encoder.blocks.0.attn.q_bias")

    assert differences(config, state, shown_settings(state)) == [
        "encoder.blocks.0.attn.q_bias is missing",
        "encoder.blocks.0.gamma_1 is unknown",
    ]


def test_a_whole_model_without_its_last_layer_is_refused(
    pixel_config: ModelConfig,
) -> None:
    state = dict(Sigma(pixel_config).state_dict())
    del state["decoder.head.bias"]

    assert differences(pixel_config, state, shown_settings(state)) == [
        "decoder.head.bias is missing"
    ]


def test_weights_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"none of its 1 tensors is the embedding of tubelets"):
        shown_settings({"encoder.patch_embed.proj.weight": torch.zeros(8, 3, 16, 16)})


def test_other_channels_than_three_are_refused(state: dict[str, Tensor]) -> None:
    state["encoder.patch_embed.proj.weight"] = torch.zeros(48, 1, 2, 8, 8)

    with pytest.raises(ValueError, match="its patches are 1 x 8 x 8, not 3 x P x P"):
        shown_settings(state)


def test_heads_of_an_unpublished_width_are_asked_for(state: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"48 wide.* how many heads it has is not known"):
        encoder_config(shown_settings(state))


@pytest.mark.parametrize("ratio", [2.6667, 4.3, 1.03])
def test_any_width_of_the_hidden_layer_is_met_again(config: ModelConfig, ratio: float) -> None:
    encoder = config.encoder.model_copy(update={"mlp_ratio": ratio})
    odd = config.model_copy(update={"encoder": encoder})
    state = {f"encoder.{name}": t for name, t in Encoder(odd).state_dict().items()}
    shown = shown_settings(state)

    assert differences(odd, state, shown) == []
    shown["encoder"]["num_heads"] = 3
    assert differences(encoder_config(shown), state, shown) == []


def test_a_hidden_layer_of_nearly_the_same_width_is_refused(config: ModelConfig) -> None:
    encoder = config.encoder.model_copy(update={"mlp_ratio": 4.03})
    state = {
        f"encoder.{name}": tensor
        for name, tensor in Encoder(config.model_copy(update={"encoder": encoder}))
        .state_dict()
        .items()
    }

    found = differences(config, state, shown_settings(state))

    assert "encoder.blocks.0.mlp.fc1.bias is (193,), not (192,)" in found
