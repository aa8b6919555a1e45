"""Sizes by name."""

import pytest
import torch
from pydantic import ValidationError

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import Sigma, num_parameters


@pytest.mark.parametrize(
    ("name", "encoder", "decoder"),
    [
        ("vit_ti", (192, 12, 3), (96, 4, 3)),
        ("vit_s", (384, 12, 6), (192, 4, 3)),
        ("vit_b", (768, 12, 12), (384, 4, 6)),
        ("vit_l", (1024, 24, 16), (512, 4, 8)),
        ("vit_h", (1280, 32, 16), (640, 4, 8)),
    ],
)
def test_a_name_stands_for_an_encoder_and_its_decoder(
    name: str, encoder: tuple[int, ...], decoder: tuple[int, ...]
) -> None:
    config = ModelConfig.model_validate({"encoder": name})

    for stack, expected in ((config.encoder, encoder), (config.decoder, decoder)):
        assert (stack.embed_dim, stack.depth, stack.num_heads) == expected


def test_a_decoder_that_is_given_stays() -> None:
    own = {"embed_dim": 64, "depth": 1, "num_heads": 2}

    assert ModelConfig.model_validate({"encoder": "vit_s", "decoder": own}).decoder.embed_dim == 64
    assert ModelConfig.model_validate({"decoder": "vit_l"}).decoder.embed_dim == 512


def test_a_name_is_written_out_as_numbers() -> None:
    config = ModelConfig.model_validate({"encoder": "vit_s"})

    assert config.model_dump()["encoder"]["embed_dim"] == 384
    assert ModelConfig.model_validate(config.model_dump()) == config


def test_the_defaults_are_those_of_vit_b() -> None:
    assert ModelConfig.model_validate({"encoder": "vit_b"}) == ModelConfig()


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="'vit_x' is no size; sizes are vit_ti, vit_s"):
        ModelConfig.model_validate({"encoder": "vit_x"})


def test_the_default_model_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = Sigma(ModelConfig())

    assert num_parameters(model) == 98_021_760
