"""Weights as bytes and back; names and sizes of the published checkpoints."""

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import Sigma, build_sigma, num_parameters
from sigma_pipeline.model.weights import (
    build_encoder,
    encoder_weights,
    load_weights,
    restore_weights,
    save_weights,
)


def test_weights_come_back_bit_for_bit(config: ModelConfig) -> None:
    state = build_sigma(config, seed=0).state_dict()

    loaded = load_weights(save_weights(state))

    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_equal_states_give_equal_bytes(config: ModelConfig) -> None:
    state = build_sigma(config, seed=0).state_dict()

    assert save_weights(state) == save_weights(dict(reversed(state.items())))


def test_transposed_tensors_can_be_saved() -> None:
    matrix = torch.arange(6).view(2, 3).T

    assert torch.equal(load_weights(save_weights({"matrix": matrix}))["matrix"], matrix)


@pytest.mark.parametrize("length", [0, 7, 100])
def test_a_truncated_file_is_refused(config: ModelConfig, length: int) -> None:
    data = save_weights(build_sigma(config, seed=0).state_dict())

    with pytest.raises(ValueError, match="bytes are not a safetensors file"):
        load_weights(data[:length])


def test_an_encoder_built_from_a_state_gives_the_models_features(
    config: ModelConfig, clip: Tensor
) -> None:
    model = build_sigma(config, seed=3)

    encoder = build_encoder(config, load_weights(save_weights(model.state_dict())))

    assert not encoder.training
    assert torch.equal(encoder.encode(clip), model.encoder.encode(clip))


def test_only_the_encoder_is_exported(config: ModelConfig) -> None:
    model = build_sigma(config, seed=0)

    assert encoder_weights(model.state_dict()).keys() == model.encoder.state_dict().keys()


def test_a_state_without_an_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match=r"none of 1 tensors is named 'encoder\.\*'"):
        encoder_weights({"head.0.weight": torch.zeros(1)})


def test_weights_of_another_model_are_refused_with_all_differences(config: ModelConfig) -> None:
    model = build_sigma(config, seed=0)
    state = dict(model.state_dict())
    state["mask_token"] = torch.zeros(1, 1, 8)
    state["gamma"] = state.pop("prototypes")

    with pytest.raises(
        ValueError,
        match=r"prototypes is missing; gamma is unknown; mask_token is \(1, 1, 8\), not \(1, 1, 32",
    ):
        restore_weights(model, state)


def test_the_default_model_has_the_size_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        model = Sigma(ModelConfig())

    assert num_parameters(model) == 98_021_760
    assert num_parameters(model.encoder) == 86_227_200


def test_the_dino_checkpoints_size_follows_from_the_same_parts() -> None:
    """3000 prototypes and predictions of 768 numbers; the teacher is not stored."""
    with torch.device("meta"):
        model = Sigma(ModelConfig(prototypes=3000))

    head, prototypes = model.decoder.head, model.prototypes
    shared = (
        num_parameters(model) - sum(map(num_parameters, (model.target, head))) - prototypes.numel()
    )
    assert shared + (384 * 768 + 768) + 3000 * 768 == 96_219_264


def test_names_and_shapes_are_those_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        state = {
            name: tuple(value.shape) for name, value in Sigma(ModelConfig()).state_dict().items()
        }

    outside_blocks = {name: shape for name, shape in state.items() if ".blocks." not in name}
    assert outside_blocks == {
        "mask_token": (1, 1, 384),
        "prototypes": (4000, 256),
        "encoder.patch_embed.proj.weight": (768, 3, 2, 16, 16),
        "encoder.patch_embed.proj.bias": (768,),
        "encoder.norm.weight": (768,),
        "encoder.norm.bias": (768,),
        "encoder_to_decoder.weight": (384, 768),
        "decoder.norm.weight": (384,),
        "decoder.norm.bias": (384,),
        "decoder.head.weight": (256, 384),
        "decoder.head.bias": (256,),
        "head.0.weight": (1024, 1536),
        "head.0.bias": (1024,),
        "head.2.weight": (1024, 1024),
        "head.2.bias": (1024,),
        "head.4.weight": (512, 1024),
        "head.4.bias": (512,),
        "head.6.weight": (256, 512),
        "head.6.bias": (256,),
    }
    assert state["encoder.blocks.11.attn.q_bias"] == (768,)
    assert state["decoder.blocks.3.attn.qkv.weight"] == (1152, 384)
    assert "encoder.blocks.12.norm1.weight" not in state
