"""Settings of the network and its objective; defaults are those of the released ViT-B runs.

Facts: ``protocols.md`` sections 1.1 to 1.3 (scripts and weights of the ECCV 2024 release).
"""

from typing import Any, Literal

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, model_validator

from sigma_pipeline.model.sizes import DECODERS, ENCODERS, size_name
from sigma_pipeline.model.teacher_shapes import TEACHERS, TeacherName


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
    teacher: TeacherName | None = None
    """Only with ``dino``: a ViT-S (384 wide) or ViT-B (768 wide) of DINO v1 (patch 16), DINOv2 with
    registers (patch 14), or DINOv3 (patch 16)."""
    teacher_weights: str | None = None
    """Only with ``dino``: local Hugging Face folder, or DINO v1's own ``.pth``, which every node
    that trains can read; nothing is downloaded."""

    @model_validator(mode="after")
    def _check_teacher(self) -> "TargetConfig":
        if (self.kind == "dino") != (self.teacher is not None):
            raise ValueError("teacher is set when, and only when, kind is 'dino'")
        if self.kind != "dino" and self.teacher_weights is not None:
            raise ValueError(f"teacher_weights={self.teacher_weights} goes with kind='dino' only")
        return self


class SinkhornConfig(BaseModel, frozen=True, extra="forbid"):
    """How features are spread over the prototypes (protocols 1.3)."""

    epsilon: float = Field(default=0.05, ge=0.01)
    """Temperature of the plan; lower means closer to one-hot."""
    iterations: PositiveInt = 10
    scope: Literal["global_batch", "micro_batch"] = "global_batch"
    """``micro_batch`` balances each micro-batch alone: cheaper with accumulation, other science."""


class ExecutionConfig(BaseModel, frozen=True, extra="forbid"):
    """How blocks are computed; the results are the same but for rounding."""

    activation_checkpointing: bool = False
    """Keep only what goes into each block, and compute the rest again for the gradients: a third
    more work, and memory that hardly grows with depth."""
    compile: bool = False
    """Blocks through ``torch.compile``; needs a C++ compiler, and minutes at the first step."""


class ModelConfig(BaseModel, frozen=True, extra="forbid"):
    """Shape of the clip, of the network, and of the task it is trained on."""

    num_frames: PositiveInt = 16
    frame_size_px: PositiveInt = 224
    tubelet_frames: PositiveInt = 2
    patch_size_px: PositiveInt = 16
    mask_ratio: float = Field(default=0.9, gt=0, lt=1)
    """Share of the patches of a frame hidden by tube masks."""

    encoder: TransformerConfig = TransformerConfig(embed_dim=768, depth=12, num_heads=12)
    """Numbers, or a name: ``vit_ti``, ``vit_s``, ``vit_b``, ``vit_l``, ``vit_h``. With a name the
    decoder is the one that goes with it, unless it is given."""
    decoder: TransformerConfig = TransformerConfig(embed_dim=384, depth=4, num_heads=6)
    """Numbers, or the name of the encoder that it goes with."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Stochastic depth in training: how often halves of the encoder's last block are left out; of
    those before, linearly less, down to 0 for the first."""
    execution: ExecutionConfig = ExecutionConfig()
    target: TargetConfig = TargetConfig()

    objective: Literal["sigma", "l2"] = "sigma"
    """``l2`` regresses the target directly: with ``pixels`` this is VideoMAE."""
    prototypes: PositiveInt = 4000
    assignment: Literal["hard", "soft"] = "hard"
    """``hard``: argmax of the plan, as released; ``soft``: the plan itself, as the paper says."""
    temperature: PositiveFloat = 0.1
    sinkhorn: SinkhornConfig = SinkhornConfig()

    @model_validator(mode="before")
    @classmethod
    def _sizes_of_names(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        sizes = dict(given)
        encoder, decoder = sizes.get("encoder"), sizes.get("decoder")
        if isinstance(encoder, str):
            sizes["encoder"] = ENCODERS[size_name(encoder)]
            decoder = sizes.get("decoder", encoder)
        if isinstance(decoder, str):
            sizes["decoder"] = DECODERS[size_name(decoder)]
        return sizes

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
        self._check_frames_of_teacher()
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

    def _check_frames_of_teacher(self) -> None:
        if self.target.teacher is None:
            return
        patch_size_px = TEACHERS[self.target.teacher].patch_size_px
        if self.frame_size_px % patch_size_px:
            raise ValueError(
                f"frame_size_px={self.frame_size_px} is not a multiple of the {patch_size_px} px "
                f"patches of target.teacher={self.target.teacher}"
            )

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
