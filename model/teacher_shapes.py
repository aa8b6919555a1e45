"""The frozen image teachers that are known by name, and the shapes their weights must have."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

TeacherName = Literal["dino_s", "dino_b", "dinov2_s", "dinov2_b", "dinov3_s", "dinov3_b"]


class TeacherShape(NamedTuple):
    """What is known of a teacher before its weights are there."""

    family: Literal["dino", "dinov2", "dinov3"]
    embed_dim: int
    depth: int
    num_heads: int
    patch_size_px: int
    num_registers: int
    published_as: str
    """On Hugging Face."""


TEACHERS: Mapping[TeacherName, TeacherShape] = {
    # Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021
    "dino_s": TeacherShape("dino", 384, 12, 6, 16, 0, "facebook/dino-vits16"),
    "dino_b": TeacherShape("dino", 768, 12, 12, 16, 0, "facebook/dino-vitb16"),
    # Darcet et al., "Vision Transformers Need Registers", ICLR 2024
    "dinov2_s": TeacherShape("dinov2", 384, 12, 6, 14, 4, "facebook/dinov2-with-registers-small"),
    "dinov2_b": TeacherShape("dinov2", 768, 12, 12, 14, 4, "facebook/dinov2-with-registers-base"),
    # Simeoni et al., "DINOv3", 2025
    "dinov3_s": TeacherShape(
        "dinov3", 384, 12, 6, 16, 4, "facebook/dinov3-vits16-pretrain-lvd1689m"
    ),
    "dinov3_b": TeacherShape(
        "dinov3", 768, 12, 12, 16, 4, "facebook/dinov3-vitb16-pretrain-lvd1689m"
    ),
}
