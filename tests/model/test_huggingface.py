"""Folders that ``transformers`` reads, and gives the same features from."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from sigma_pipeline.model.checkpoint_files import load_encoder, read_checkpoint, untrained_encoder
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.huggingface import write_huggingface
from sigma_pipeline.model.patches import IMAGENET_MEAN, IMAGENET_STD, position_table
from sigma_pipeline.model.weights import build_encoder

VIT_S = {"encoder": {"embed_dim": 384, "depth": 12, "num_heads": 6}}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    yield
    transformers.utils.logging.enable_progress_bar()
    transformers.utils.logging.set_verbosity_warning()


def normalized(clip: Tensor) -> Tensor:
    """Clips as VideoMAE takes them: [batch, frames, channels, height, width], normalized."""
    mean, std = (torch.tensor(each)[:, None, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD))
    return ((clip / 255 - mean) / std).transpose(1, 2)


def randomized(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With biases and norms that are not zeros and ones, so that none can be left out unseen."""
    draws = torch.Generator().manual_seed(2)
    return {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=draws)
        for name, tensor in state.items()
    }


def published(**changes: Any) -> tuple[ModelConfig, dict[str, Tensor]]:
    config = ModelConfig.model_validate(changes)
    encoder = untrained_encoder(config).state_dict()
    return config, {f"encoder.{name}": tensor for name, tensor in encoder.items()}


def largest_difference(config: ModelConfig, state: dict[str, Tensor], folder: Path) -> float:
    write_huggingface(folder, state, config)
    size, frames = config.frame_size_px, config.num_frames
    draws = torch.Generator().manual_seed(3)
    clip = torch.randint(0, 256, (1, 3, frames, size, size), dtype=torch.uint8, generator=draws)
    theirs = transformers.VideoMAEModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = theirs(normalized(clip)).last_hidden_state
        features = build_encoder(config, state).encode(clip).flatten(1, 3)
    assert features.abs().mean() > 0.1
    return float((features - expected).abs().max())


def test_a_small_encoder_gives_the_same_features(
    tmp_path: Path, config: ModelConfig, state: dict[str, Tensor]
) -> None:
    assert largest_difference(config, randomized(state), tmp_path) < 1e-5


@pytest.mark.slow
def test_vit_s_gives_the_same_features(tmp_path: Path) -> None:
    config, state = published(**VIT_S)

    assert largest_difference(config, state, tmp_path) < 1e-5


def test_the_documented_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "weights.md").read_text()
    config, state = published(encoder={"embed_dim": 192, "depth": 1, "num_heads": 3})
    torch.save({"model": state}, tmp_path / "checkpoint.pth")
    (tmp_path / "folder").mkdir()
    write_huggingface(tmp_path / "folder", state, config)
    monkeypatch.chdir(tmp_path)

    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec("".join(blocks), {})  # our own page

    assert len(blocks) == 3


def test_positions_are_the_same_numbers() -> None:
    from transformers.models.videomae.modeling_videomae import get_sinusoid_encoding_table

    theirs = get_sinusoid_encoding_table(1568, 384)[0]

    assert (position_table(1568, 384) - theirs).abs().max() < 1e-6


def test_every_tensor_of_the_folder_finds_its_place_in_both_models(
    tmp_path: Path, config: ModelConfig, state: dict[str, Tensor]
) -> None:
    write_huggingface(tmp_path, state, config)

    _, whole = transformers.VideoMAEModel.from_pretrained(tmp_path, output_loading_info=True)
    _, around = transformers.VideoMAEForPreTraining.from_pretrained(
        tmp_path, output_loading_info=True
    )

    assert not whole["missing_keys"]
    assert not whole["unexpected_keys"]
    assert not around["unexpected_keys"]
    assert all(
        name.startswith(("decoder.", "encoder_to_decoder", "mask_token"))
        for name in around["missing_keys"]
    )


def test_a_classifier_gives_the_same_logits(
    tmp_path: Path, config: ModelConfig, classifier: dict[str, Tensor], clip: Tensor
) -> None:
    torch.save({"model": classifier}, tmp_path / "classifier.pth")
    state = read_checkpoint(tmp_path / "classifier.pth").state
    encoder = build_encoder(config, {n: t for n, t in state.items() if n.startswith("encoder.")})
    encoder.norm = torch.nn.Identity()

    write_huggingface(tmp_path, state, config)

    model, report = transformers.VideoMAEForVideoClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.inference_mode():
        pooled = encoder.encode(clip).mean((1, 2, 3))
        weight, bias = (classifier[f"fc_norm.{name}"] for name in ("weight", "bias"))
        pooled = F.layer_norm(pooled, (48,), weight, bias, 1e-6)
        expected = F.linear(pooled, classifier["head.weight"], classifier["head.bias"])
        logits = model.eval()(normalized(clip)).logits
    # Theirs adds 1e-5, not 1e-6, to the variance of the averaged features.
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["VideoMAEModel", "VideoMAEForPreTraining"])
@pytest.mark.parametrize("use_mean_pooling", [True, False])
def test_what_transformers_saves_is_read(
    tmp_path: Path, clip: Tensor, name: str, *, use_mean_pooling: bool
) -> None:
    theirs = transformers.VideoMAEConfig(
        image_size=32,
        patch_size=8,
        num_frames=8,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        decoder_num_hidden_layers=1,
        layer_norm_eps=1e-6,
        use_mean_pooling=use_mean_pooling,
    )
    model = getattr(transformers, name)(theirs).eval()
    model.load_state_dict(randomized(model.state_dict()))
    model.save_pretrained(tmp_path)

    features = load_encoder(tmp_path).encode(clip).flatten(1, 3)

    base = getattr(model, "videomae", model)
    with torch.inference_mode():
        expected = base(normalized(clip)).last_hidden_state
        if use_mean_pooling:
            expected = F.layer_norm(expected, (48,), eps=1e-6)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)


def test_a_classifier_comes_back_bit_for_bit(
    tmp_path: Path, config: ModelConfig, classifier: dict[str, Tensor]
) -> None:
    torch.save({"model": classifier}, tmp_path / "classifier.pth")
    found = read_checkpoint(tmp_path / "classifier.pth")
    write_huggingface(tmp_path, found.state, config)

    again = read_checkpoint(tmp_path)

    assert again.kind == "fine-tuned classifier"
    assert again.state.keys() == found.state.keys()
    assert all(torch.equal(again.state[name], found.state[name]) for name in found.state)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "vit"}, "model_type 'vit'; only 'videomae' is read"),
        ({"hidden_act": "relu"}, "its activation is 'relu'; ours is 'gelu'"),
        ({"image_size": [32, 64]}, "its frames are"),
    ],
)
def test_another_model_is_refused(
    tmp_path: Path,
    config: ModelConfig,
    state: dict[str, Tensor],
    change: dict[str, Any],
    sentence: str,
) -> None:
    write_huggingface(tmp_path, state, config)
    theirs = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(theirs | change))

    with pytest.raises(ValueError, match=sentence):
        read_checkpoint(tmp_path)


def test_a_missing_part_is_named(
    tmp_path: Path, config: ModelConfig, state: dict[str, Tensor]
) -> None:
    del state["encoder.blocks.1.attn.v_bias"]
    write_huggingface(tmp_path, state, config)

    with pytest.raises(ValueError, match=r"encoder\.blocks\.1\.attn\.v_bias is missing"):
        load_encoder(tmp_path)
