"""Mixup and CutMix of a batch, on the device (Zhang et al., 2018; Yun et al., 2019; protocols 2).

Clips are mixed with their neighbour: the first with the second, the third with the fourth. So a
global batch is mixed the same way for any number of ranks and micro-batches of even size, which
the usual mixing of a batch with its reverse is not.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Mixing:
    """How strongly; an ``alpha`` of 0 turns that kind off."""

    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    cutmix_share: float = 0.5
    """Of the batches, where both kinds are on."""
    label_smoothing: float = 0.1

    @property
    def mixes(self) -> bool:
        """Whether clips are mixed at all."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0


@dataclass(frozen=True)
class Mix:
    """What was drawn for one global batch."""

    kept: float
    """Share of a clip that stays its own."""
    box: tuple[float, float, float, float] | None
    """CutMix: top, left, bottom, right as fractions of the frame; None: Mixup."""


def draw_mix(mixing: Mixing, generator: np.random.Generator) -> Mix:
    """The mix of one global batch; ``generator`` is keyed by epoch and batch, not by rank."""
    both = mixing.mixup_alpha > 0 and mixing.cutmix_alpha > 0
    is_cut = generator.random() < mixing.cutmix_share if both else mixing.cutmix_alpha > 0
    alpha = mixing.cutmix_alpha if is_cut else mixing.mixup_alpha
    if alpha <= 0:
        return Mix(1.0, None)
    kept = float(generator.beta(alpha, alpha))
    if not is_cut:
        return Mix(kept, None)
    centre_y, centre_x = generator.random(2)
    half = sqrt(1 - kept) / 2
    edges = np.clip([centre_y - half, centre_x - half, centre_y + half, centre_x + half], 0, 1)
    top, left, bottom, right = edges.tolist()
    return Mix(kept, (top, left, bottom, right))


def mix_batch(
    clip: Float[Tensor, "batch 3 frames height width"],
    labels: Int64[Tensor, " batch"],
    num_classes: int,
    mixing: Mixing,
    mix: Mix,
) -> tuple[Float[Tensor, "batch 3 frames height width"], Float[Tensor, "batch classes"]]:
    """Mixed clips and their soft targets.

    Raises:
        ValueError: the batch is odd, so that one clip has no neighbour.
    """
    if len(clip) % 2:
        raise ValueError(f"mixing takes an even number of clips, not {len(clip)}")
    neighbour = _neighbours(clip)
    mixed, kept = _mixed(clip, neighbour, mix)
    own = smoothed(labels, num_classes, mixing.label_smoothing)
    other = _neighbours(own)
    return mixed, kept * own + (1 - kept) * other


def order_of_pairs(num_clips: int, clips_per_video: int) -> Int64[Tensor, " batch"]:
    """The order in which neighbours, which are mixed, are of two videos.

    Clips of one video stand side by side before; there is an even number of videos.
    """
    return torch.arange(num_clips).view(-1, clips_per_video).T.flatten()


def _neighbours(rows: Tensor) -> Tensor:
    """Each row's other of its pair, same shape."""
    return torch.stack((rows[1::2], rows[::2]), dim=1).flatten(0, 1)


def _mixed(clip: Tensor, neighbour: Tensor, mix: Mix) -> tuple[Tensor, float]:
    """The clips, and the share that is their own after rounding to pixels."""
    if mix.box is None:
        return torch.lerp(neighbour, clip, mix.kept), mix.kept
    height, width = clip.shape[-2:]
    top, bottom = (round(edge * height) for edge in mix.box[::2])
    left, right = (round(edge * width) for edge in mix.box[1::2])
    mixed = clip.clone()
    mixed[..., top:bottom, left:right] = neighbour[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def smoothed(
    labels: Int64[Tensor, " batch"], num_classes: int, smoothing: float
) -> Float[Tensor, "batch classes"]:
    """Soft targets of clips that are not mixed: ``smoothing`` is shared by all classes."""
    one_hot = F.one_hot(labels, num_classes).float()
    return one_hot * (1 - smoothing) + smoothing / num_classes
