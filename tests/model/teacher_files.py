"""Small random teachers in the real formats, and DINO v1's network written out in float64."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigma_pipeline.model.config import ModelConfig, TargetConfig
from sigma_pipeline.model.masking import split_tokens, tube_masks
from sigma_pipeline.model.patches import cut_tubelets
from sigma_pipeline.model.teacher_shapes import TEACHERS, TeacherName, TeacherShape
from sigma_pipeline.model.teachers import TeacherTarget

SMALL: dict[TeacherName, TeacherShape] = {
    "dino_s": TeacherShape("dino", 32, 2, 4, 16, 0, "facebook/dino-vits16"),
    "dinov2_s": TeacherShape("dinov2", 32, 2, 4, 14, 4, "facebook/dinov2-with-registers-small"),
    "dinov3_s": TeacherShape("dinov3", 32, 2, 4, 16, 4, "facebook/dinov3-vits16-pretrain-lvd1689m"),
}


def use_small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the names stand for networks that a test can draw."""
    for name, shape in SMALL.items():
        monkeypatch.setitem(TEACHERS, name, shape)  # type: ignore[arg-type]


def target(weights: Path | str | None, teacher: TeacherName = "dino_s") -> TargetConfig:
    """A branch that names the teacher and where its weights lie."""
    return TargetConfig(kind="dino", teacher=teacher, teacher_weights=weights and str(weights))


def huggingface_network(teacher: TeacherName, image_size: int) -> nn.Module:
    """Random weights, none of them zero or one."""
    import transformers

    shape = SMALL[teacher]
    settings = {
        "hidden_size": shape.embed_dim,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.num_heads,
        "patch_size": shape.patch_size_px,
        "image_size": image_size,
    }
    if teacher == "dino_s":
        vit = transformers.ViTConfig(**settings, intermediate_size=128, layer_norm_eps=1e-6)
        network = transformers.ViTModel(vit, add_pooling_layer=False)
    elif teacher == "dinov2_s":
        network = transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(**settings, num_register_tokens=4)
        )
    else:
        network = transformers.DINOv3ViTModel(
            transformers.DINOv3ViTConfig(**settings, intermediate_size=128, num_register_tokens=4)
        )
    draws = torch.Generator().manual_seed(3)
    for weight in network.parameters():
        weight.data.normal_(std=0.2, generator=draws)
    drawn: nn.Module = network.eval()
    return drawn


def write_folder(folder: Path, teacher: TeacherName, image_size: int = 32) -> nn.Module:
    """Writes a Hugging Face folder, and returns the network in it."""
    network = huggingface_network(teacher, image_size)
    network.save_pretrained(folder)
    return network


def original_state(shape: TeacherShape, side: int) -> dict[str, Tensor]:
    """A DINO v1 state dict under its published names.

    Args:
        shape: of the network.
        side: of the grid of its position table.
    """
    dim, draws = shape.embed_dim, torch.Generator().manual_seed(5)
    sizes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, side**2 + 1, dim),
        "patch_embed.proj.weight": (dim, 3, shape.patch_size_px, shape.patch_size_px),
        "patch_embed.proj.bias": (dim,),
    }
    for block in range(shape.depth):
        for part, (outputs, inputs) in {
            "attn.qkv": (3 * dim, dim),
            "attn.proj": (dim, dim),
            "mlp.fc1": (4 * dim, dim),
            "mlp.fc2": (dim, 4 * dim),
        }.items():
            sizes[f"blocks.{block}.{part}.weight"] = (outputs, inputs)
            sizes[f"blocks.{block}.{part}.bias"] = (outputs,)
        for norm in ("norm1", "norm2"):
            sizes |= {f"blocks.{block}.{norm}.{kind}": (dim,) for kind in ("weight", "bias")}
    sizes |= {"norm.weight": (dim,), "norm.bias": (dim,)}
    return {name: 0.2 * torch.randn(size, generator=draws) for name, size in sizes.items()}


def original_patches(state: dict[str, Tensor], shape: TeacherShape, pixels: Tensor) -> Tensor:
    """Patch features of DINO v1 in float64, by its formulas; pixels as large as its table."""
    state = {name: tensor.double() for name, tensor in state.items()}
    dim, patch, heads = shape.embed_dim, shape.patch_size_px, shape.num_heads

    def linear(name: str, tokens: Tensor) -> Tensor:
        return tokens @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, tokens: Tensor) -> Tensor:
        centred = tokens - tokens.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    blocks = F.unfold(pixels.double(), patch, stride=patch).transpose(1, 2)
    kernel = state["patch_embed.proj.weight"].flatten(1)
    embedded = blocks @ kernel.T + state["patch_embed.proj.bias"]
    tokens = torch.cat((state["cls_token"].expand(len(pixels), -1, -1), embedded), dim=1)
    tokens = tokens + state["pos_embed"]
    for block in range(shape.depth):
        name = f"blocks.{block}"
        stacked = linear(f"{name}.attn.qkv", norm(f"{name}.norm1", tokens))
        query, key, value = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in stacked.split(dim, dim=-1)
        )
        weights = (query @ key.mT / (dim // heads) ** 0.5).softmax(dim=-1)
        tokens = tokens + linear(f"{name}.attn.proj", (weights @ value).transpose(1, 2).flatten(2))
        hidden = linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", tokens))
        gelu = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        tokens = tokens + linear(f"{name}.mlp.fc2", gelu)
    return norm("norm", tokens)[:, 1:]


def config_of(teacher: TeacherName, weights: Path | None = None, **settings: object) -> ModelConfig:
    """Six frames of 112 px in 3 slices of 7x7 tokens; DINO v1 and v3 see 7x7 patches, v2 8x8."""
    shape: dict[str, object] = {
        "num_frames": 6,
        "frame_size_px": 112,
        "encoder": {"embed_dim": 48, "depth": 1, "num_heads": 3},
        "decoder": {"embed_dim": 32, "depth": 1, "num_heads": 2},
        "mask_ratio": 0.75,
        "prototypes": 24,
        "target": {
            "kind": "dino",
            "teacher": teacher,
            "teacher_weights": weights and str(weights),
        },
    }
    return ModelConfig.model_validate(shape | settings)


def masks(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Of three clips: one mask per clip, and the hidden tokens under it."""
    mask = tube_masks(config, range(3))
    return mask, split_tokens(config, mask)[1]


def targets_of(config: ModelConfig, clips: Tensor) -> Tensor:
    """Features of the hidden tokens of three clips."""
    return TeacherTarget(config, TEACHERS[config.target.teacher or "dino_s"])(
        cut_tubelets(clips, 2, 16), masks(config)[1]
    )
