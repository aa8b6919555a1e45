"""Target branches: what the hidden tubelets are predicted to be (protocols 1.2).

Axes: ``voxels`` are the frames, rows and columns inside one tubelet; ``hidden`` the hidden tokens
of each clip; ``out_dim`` the width of the branch's features.
"""

from itertools import pairwise
from typing import Protocol

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.patches import pick_tokens
from sigma_pipeline.model.products import Linear
from sigma_pipeline.model.standardized import standardized
from sigma_pipeline.model.teacher_shapes import TEACHERS
from sigma_pipeline.model.teachers import TeacherTarget


class TargetBranch(Protocol):
    """Features of the hidden tokens. Whole clips are given: frozen teachers look at all of them."""

    out_dim: int

    def __call__(
        self,
        tubelets: UInt8[Tensor, "batch tokens channels voxels"],
        hidden: Int[Tensor, "batch hidden"],
    ) -> Float[Tensor, "batch hidden out_dim"]:
        """One feature per hidden token, in the order of ``hidden``."""
        ...


def normalized_pixels(
    tubelets: UInt8[Tensor, "batch tokens channels voxels"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "batch tokens values"]:
    """Pixels with mean 0 and deviation 1 in every channel of every tubelet.

    The deviation is the unbiased one of values in [0, 1], and 1e-6 is added to it: a flat tubelet
    becomes zeros. Values are ordered (frame, row, column, channel), as the published MLP reads
    them.
    """
    pixels = standardized(tubelets.to(dtype) / 255, dim=-1)
    return pixels.transpose(-1, -2).flatten(-2)


class PixelTarget(nn.Module):
    """Normalized pixels themselves: with the ``l2`` objective this is VideoMAE."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.out_dim = config.tubelet_dim

    @torch.no_grad()
    def forward(
        self,
        tubelets: UInt8[Tensor, "batch tokens channels voxels"],
        hidden: Int[Tensor, "batch hidden"],
    ) -> Float[Tensor, "batch hidden out_dim"]:
        """Normalized pixels of the hidden tubelets, in float32."""
        return normalized_pixels(pick_tokens(tubelets, hidden))


class MlpTarget(nn.Module):
    """Projection network over normalized pixels, learned along with the encoder.

    Layers are drawn as PyTorch does by default, without normalization between them. They are
    numbered 0, 2, 4, ... as in the published checkpoints; odd numbers are the GELUs.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.out_dim = config.target.dim
        widths = (config.tubelet_dim, *config.target.hidden_dims, config.target.dim)
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            self.add_module(str(2 * number), Linear(inputs, outputs))

    def forward(
        self,
        tubelets: UInt8[Tensor, "batch tokens channels voxels"],
        hidden: Int[Tensor, "batch hidden"],
    ) -> Float[Tensor, "batch hidden out_dim"]:
        """Projected pixels of the hidden tubelets."""
        first, *others = self.children()
        dtype = next(self.parameters()).dtype
        # Differences within a tubelet are small: half precision would be lost in its mean.
        exact = torch.promote_types(dtype, torch.float32)
        pixels = normalized_pixels(pick_tokens(tubelets, hidden), exact)
        features: Tensor = first(pixels.to(dtype))
        for layer in others:
            features = layer(features, after_gelu=True)
        return features


def build_target(config: ModelConfig) -> MlpTarget | PixelTarget | TeacherTarget:
    """The branch that ``config.target`` names; weights of a teacher are read at its first use."""
    if config.target.teacher is not None:
        return TeacherTarget(config, TEACHERS[config.target.teacher])
    return MlpTarget(config) if config.target.kind == "mlp" else PixelTarget(config)
