"""Settings of the network and its objective; defaults are those of the released ViT-B runs.

Facts: ``protocols.md`` sections 1.1 to 1.3 (scripts and weights of the ECCV 2024 release).
"""

from typing import Literal

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, model_validator


class TransformerConfig(BaseModel, frozen=True, extra="forbid"):
    """Width and depth of a stack of pre-norm blocks."""

    embed_dim: PositiveInt
    depth: PositiveInt
    num_heads: PositiveInt
    mlp_ratio: PositiveFloat = 4.0

    @model_validator(mode="after")
    def _check_heads(self) -> "TransformerConfig":
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim={self.embed_dim} is not a multiple of num_heads={self.num_heads}"
            )
        return self


class TargetConfig(BaseModel, frozen=True, extra="forbid"):
    """What the masked tubelets are predicted to be (protocols 1.2)."""

    kind: Literal["mlp", "pixels", "dino"] = "mlp"
    """``mlp``: projection network learned along; ``pixels``: normalized pixels; ``dino``: frozen
    image teacher."""
    hidden_dims: tuple[PositiveInt, ...] = (1024, 1024, 512)
    """Hidden layers of the ``mlp`` target."""
    dim: PositiveInt = 256
    """Width of the ``mlp`` target's features; the others bring their own."""
    teacher: Literal["dino_s", "dino_b"] | None = None
    """Only with ``dino``: DINO v1 ViT-S/16 (384 wide) or ViT-B/16 (768 wide)."""
    teacher_weights: str | None = None
    """Only with ``dino``: local file with the teacher's weights; nothing is downloaded."""

    @model_validator(mode="after")
    def _check_teacher(self) -> "TargetConfig":
        if (self.kind == "dino") != (self.teacher is not None):
            raise ValueError("teacher is set when, and only when, kind is 'dino'")
        return self


class SinkhornConfig(BaseModel, frozen=True, extra="forbid"):
    """How features are spread over the prototypes (protocols 1.3)."""

    epsilon: float = Field(default=0.05, ge=0.01)
    """Temperature of the plan; lower means closer to one-hot."""
    iterations: PositiveInt = 10
    scope: Literal["global_batch", "micro_batch"] = "global_batch"
    """``micro_batch`` balances each micro-batch alone: cheaper with accumulation, other science."""


class ModelConfig(BaseModel, frozen=True, extra="forbid"):
    """Shape of the clip, of the network, and of the task it is trained on."""

    num_frames: PositiveInt = 16
    frame_size_px: PositiveInt = 224
    tubelet_frames: PositiveInt = 2
    patch_size_px: PositiveInt = 16
    mask_ratio: float = Field(default=0.9, gt=0, lt=1)
    """Share of the patches of a frame hidden by tube masks."""

    encoder: TransformerConfig = TransformerConfig(embed_dim=768, depth=12, num_heads=12)
    decoder: TransformerConfig = TransformerConfig(embed_dim=384, depth=4, num_heads=6)
    target: TargetConfig = TargetConfig()

    objective: Literal["sigma", "l2"] = "sigma"
    """``l2`` regresses the target directly: with ``pixels`` this is VideoMAE."""
    prototypes: PositiveInt = 4000
    assignment: Literal["hard", "soft"] = "hard"
    """``hard``: argmax of the plan, as released; ``soft``: the plan itself, as the paper says."""
    temperature: PositiveFloat = 0.1
    sinkhorn: SinkhornConfig = SinkhornConfig()

    @model_validator(mode="after")
    def _check_agreement(self) -> "ModelConfig":
        for whole, part in (
            ("frame_size_px", "patch_size_px"),
            ("num_frames", "tubelet_frames"),
        ):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{whole}={getattr(self, whole)} is not a multiple of "
                    f"{part}={getattr(self, part)}"
                )
        if self.objective == "sigma" and self.target.kind == "pixels":
            raise ValueError("target.kind=pixels goes with objective=l2; sigma needs mlp or dino")
        if self.objective == "l2" and self.target.kind == "mlp":
            raise ValueError("target.kind=mlp collapses under objective=l2; use pixels or dino")
        if not 0 < self.num_masked_patches < self.num_patches:
            raise ValueError(
                f"mask_ratio={self.mask_ratio} of {self.num_patches} patches per frame leaves "
                f"{self.num_masked_patches} hidden; at least 1 must be hidden and 1 visible"
            )
        return self

    @property
    def num_slices(self) -> int:
        """Tubelets along time."""
        return self.num_frames // self.tubelet_frames

    @property
    def num_patches(self) -> int:
        """Patches of one frame."""
        return (self.frame_size_px // self.patch_size_px) ** 2

    @property
    def num_masked_patches(self) -> int:
        """Hidden patches of one frame; the same ones in every frame."""
        return int(self.mask_ratio * self.num_patches)

    @property
    def num_tokens(self) -> int:
        """Tubelets of one clip."""
        return self.num_slices * self.num_patches

    @property
    def tubelet_dim(self) -> int:
        """Values in one tubelet."""
        return self.tubelet_frames * self.patch_size_px**2 * 3
