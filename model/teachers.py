"""The target branch of a frozen image teacher (protocols 1.2).

Axes: ``slices`` are tubelets along time, ``patches`` the teacher's own patches of a frame,
``hidden`` the hidden tokens of each clip; ``out_dim`` is the teacher's width.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from sigma_pipeline.model.config import ModelConfig, TargetConfig
from sigma_pipeline.model.patches import IMAGENET_MEAN, IMAGENET_STD, pick_tokens
from sigma_pipeline.model.standardized import standardized
from sigma_pipeline.model.teacher_shapes import TeacherShape
from sigma_pipeline.model.teacher_weights import load_teacher

_PATCHES_AT_ONCE = 12_544
"""64 frames of 224 px: enough to fill a GPU, about 0.5 GiB for a ViT-B in float32."""


class Teacher:
    """A network that looks at whole frames and is never trained.

    No module, on purpose: its weights are among nobody's parameters and in nobody's state, so that
    no optimizer, engine or checkpoint sees them, ``train()`` does not reach it, and no ``half()``
    casts it. The weights are read when the first frames come, and follow the frames to their
    device; a model can be built, counted and stored without them.
    """

    def __init__(self, target: TargetConfig, shape: TeacherShape) -> None:
        self._target = target
        self._shape = shape
        # Only DINO v1's class in transformers must be asked to take other sizes than its own.
        self._options = {"interpolate_pos_encoding": True} if shape.family == "dino" else {}
        self._network: nn.Module | None = None

    @property
    def network(self) -> nn.Module:
        """The network with its weights; on the CPU until it is used elsewhere.

        Raises:
            ValueError: the weights are not there, or not those of this teacher.
        """
        if self._network is None:
            self._network = load_teacher(self._target)
        return self._network

    @torch.no_grad()
    def __call__(
        self, frames: UInt8[Tensor, "frames channels height width"]
    ) -> Float[Tensor, "frames patches out_dim"]:
        """Normed features of the patches, row by row, without class token and registers.

        The network's own float32, or what autocast makes of it. Frames are looked at a few at a
        time.

        Raises:
            ValueError: the weights are not there, or not those of this teacher.
        """
        self.network.to(frames.device)
        patch = self._shape.patch_size_px
        num_patches = (frames.shape[2] // patch) * (frames.shape[3] // patch)
        parts = torch.split(frames, max(1, _PATCHES_AT_ONCE // num_patches))
        return torch.cat([self._tokens(part)[:, -num_patches:] for part in parts])

    def _tokens(
        self, frames: UInt8[Tensor, "frames channels height width"]
    ) -> Float[Tensor, "frames tokens out_dim"]:
        """Of a few frames; the patches come last."""
        mean, std = (
            torch.tensor(values, device=frames.device)[:, None, None]
            for values in (IMAGENET_MEAN, IMAGENET_STD)
        )
        output = self.network((frames.float() / 255 - mean) / std, **self._options)
        tokens: Tensor = output.last_hidden_state
        return tokens


class TeacherTarget(nn.Module):
    """Features that a frozen teacher has for whole frames, at the hidden tokens.

    The first frame of each tubelet is looked at, unmasked. Features are laid on the grid of the
    tokens, and every channel is normalized over all tokens of the clip. Nothing is learned.
    """

    def __init__(self, config: ModelConfig, shape: TeacherShape) -> None:
        super().__init__()
        self.config = config
        self.out_dim = shape.embed_dim
        self.teacher = Teacher(config.target, shape)

    @torch.no_grad()
    def forward(
        self,
        tubelets: UInt8[Tensor, "batch tokens channels voxels"],
        hidden: Int[Tensor, "batch hidden"],
    ) -> Float[Tensor, "batch hidden out_dim"]:
        """Normalized features of the hidden tokens, in float32.

        Raises:
            ValueError: the teacher's weights are not there, or not its own.
        """
        frames = first_frames(tubelets, self.config)
        side = self.config.frame_size_px // self.config.patch_size_px
        features = on_grid(self.teacher(frames.flatten(0, 1)), side)
        clips = features.reshape(len(frames), -1, self.out_dim)
        return pick_tokens(standardized(clips, dim=1), hidden)


def first_frames(
    tubelets: UInt8[Tensor, "batch tokens channels voxels"], config: ModelConfig
) -> UInt8[Tensor, "batch slices channels height width"]:
    """The first frame of every tubelet, put together again."""
    batch, _, channels, _ = tubelets.shape
    size, patch = config.frame_size_px, config.patch_size_px
    blocks = tubelets.view(
        batch, -1, size // patch, size // patch, channels, config.tubelet_frames, patch, patch
    )
    # batch slices rows columns channels height width -> each row of patches next to its pixels
    frames = blocks[..., 0, :, :].permute(0, 1, 4, 2, 5, 3, 6)
    return frames.reshape(batch, -1, channels, size, size)


def on_grid(
    features: Float[Tensor, "frames patches out_dim"], side: int
) -> Float[Tensor, "frames places out_dim"]:
    """Features of a square grid at the places of another one, bilinearly, in float32."""
    own_side = round(features.shape[1] ** 0.5)
    if own_side == side:
        return features.float()
    grid = features.float().transpose(1, 2).reshape(len(features), -1, own_side, own_side)
    resized = F.interpolate(grid, size=(side, side), mode="bilinear", align_corners=False)
    return resized.flatten(2).transpose(1, 2)
