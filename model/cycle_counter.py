"""A network that corrects guesses of how long an action's cycles are (Zhang et al., CVPR 2020).

It sees the frames around a position in two halves, one for the previous cycle and one for the next,
and says of several multiples of the guess (anchors) whether each is about right, and how far off
(protocols 5.2). Published for a convolutional network that sees both halves as one clip; the
ViT's form is unpublished. Ours: each half is a clip of its own for the same encoder, and the means
of their tokens, each normalized, stand side by side before the last layer.

Axes: ``sides`` (2): previous, next cycle; ``anchors``; ``says`` (3): scores of wrong and of right,
offset; ``facts`` (2): label (-1 unknown, 0 wrong, 1 right), offset.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from sigma_pipeline.model.classifier import mean_token, without_norm
from sigma_pipeline.model.encoder import Encoder
from sigma_pipeline.model.transformer import layer_norm

_INIT_STD = 0.02
_SAYS = 3
_RIGHT = 1


class CycleHead(nn.Module):
    """LayerNorm of each half, and the published four linear heads side by side in one matrix."""

    def __init__(self, dim: int, num_anchors: int, seed: int) -> None:
        super().__init__()
        self.fc_norm = layer_norm(dim)
        self.head = nn.Linear(2 * dim, 2 * num_anchors * _SAYS)
        draws = torch.Generator().manual_seed(seed)
        nn.init.trunc_normal_(self.head.weight, std=_INIT_STD, generator=draws)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, features: Float[Tensor, "batch sides dim"]
    ) -> Float[Tensor, "batch sides anchors says"]:
        """What is said of each anchor."""
        said: Tensor = self.head(self.fc_norm(features).flatten(1))
        return said.view(len(features), 2, -1, _SAYS)


class CycleCounter(nn.Module):
    """``encoder.*`` without its norm, and ``counter.*``."""

    def __init__(self, encoder: Encoder, num_anchors: int, seed: int) -> None:
        """Takes ``encoder`` for itself; ``seed`` is that of the head."""
        super().__init__()
        self.encoder = without_norm(encoder)
        self.counter = CycleHead(encoder.config.encoder.embed_dim, num_anchors, seed)

    def forward(
        self,
        clip: UInt8[Tensor, "batch channels frames height width"],
        branch_scales: Float[Tensor, "halves blocks branches"] | None = None,
    ) -> Float[Tensor, "batch sides anchors says"]:
        """What is said of the anchors of each clip.

        Args:
            clip: the half of the previous cycle, then that of the next, each of half the frames.
            branch_scales: of stochastic depth, while training: of both halves of the first clip,
                then of the second, and so on.

        Raises:
            ValueError: as ``Encoder.encode``.
        """
        halves = torch.stack(clip.chunk(2, dim=2), dim=1).flatten(0, 1)
        tokens = self.encoder.encode_unnormalized(halves, branch_scales)
        said: Tensor = self.counter(mean_token(tokens).view(len(clip), 2, -1))
        return said


def cycle_loss(
    said: Float[Tensor, "batch sides anchors says"],
    facts: Float32[Tensor, "batch sides facts anchors"],
    box_weight: float,
) -> Float32[Tensor, ""]:
    """Cross-entropy of known anchors, and smooth L1 of the offsets of right ones, of both sides.

    Each is a mean over the anchors of one clip and side, and 0 without any: so a clip weighs the
    same whatever it is batched with. (Published: a mean over the anchors of a batch.)
    """
    labels, offsets = facts.unbind(dim=2)
    scores = said[..., :2].float().flatten(0, 2)
    entropy = F.cross_entropy(scores, labels.clamp(min=0).long().flatten(), reduction="none")
    distance = F.smooth_l1_loss(said[..., 2].float(), offsets, reduction="none")
    by_side = _mean(entropy.view_as(labels), labels >= 0)
    by_side = by_side + box_weight * _mean(distance, labels == _RIGHT)
    return by_side.sum(dim=1).mean()


def right_and_offsets(
    said: Float[Tensor, "batch sides anchors says"],
) -> tuple[Float32[Tensor, "batch sides anchors"], Float32[Tensor, "batch sides anchors"]]:
    """How likely each anchor is right, and its offset."""
    said = said.float()
    return said[..., :2].softmax(dim=-1)[..., _RIGHT], said[..., 2]


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    """Over the last axis, of those that count; 0 where none does."""
    return (values * counts).sum(dim=-1) / counts.sum(dim=-1).clamp(min=1)
