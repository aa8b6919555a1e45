"""Fine-tuning's model (protocols 2): a pre-trained encoder with the head of a classifier.

The head stands on the mean of the last block's tokens. The encoder's own final norm is dropped: a
fresh one, ``fc_norm``, stands behind the mean in its place. Names are those of the published
fine-tuned weights, behind the prefixes of this project's files (``model.weights``).
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from sigma_pipeline.model.encoder import Encoder
from sigma_pipeline.model.transformer import layer_norm

_INIT_STD, _INIT_SCALE = 0.02, 0.001


class ClassHead(nn.Module):
    """LayerNorm and linear layer; a score for each class, near 0 at first."""

    def __init__(self, dim: int, num_classes: int, seed: int) -> None:
        super().__init__()
        self.fc_norm = layer_norm(dim)
        self.head = nn.Linear(dim, num_classes)
        draws = torch.Generator().manual_seed(seed)
        nn.init.trunc_normal_(self.head.weight, std=_INIT_STD, generator=draws)
        self.head.weight.data.mul_(_INIT_SCALE)
        nn.init.zeros_(self.head.bias)

    @property
    def num_classes(self) -> int:
        """Of the scores."""
        return self.head.out_features

    def forward(
        self,
        features: Float[Tensor, "*batch dim"],
        scales: Float[Tensor, "*batch dim"] | None = None,
    ) -> Float[Tensor, "*batch classes"]:
        """Scores of features; ``scales`` are those of dropout, as ``dropout_scales`` draws them."""
        normed = self.fc_norm(features)
        logits: Tensor = self.head(normed if scales is None else normed * scales.to(normed.dtype))
        return logits


class VideoClassifier(nn.Module):
    """What fine-tuning trains: ``encoder.*`` without its norm, and ``classifier.*``."""

    def __init__(self, encoder: Encoder, num_classes: int, seed: int) -> None:
        """Takes ``encoder`` for itself; ``seed`` is that of the head."""
        super().__init__()
        self.encoder = without_norm(encoder)
        self.classifier = ClassHead(encoder.config.encoder.embed_dim, num_classes, seed)

    def forward(
        self,
        clip: UInt8[Tensor, "batch channels frames height width"],
        branch_scales: Float[Tensor, "batch blocks halves"] | None = None,
        dropout_scales: Float[Tensor, "batch dim"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """Scores of whole clips, before softmax or sigmoid.

        Args:
            clip: RGB in [0, 255], of as many frames as the encoder takes or fewer.
            branch_scales: of stochastic depth, while training.
            dropout_scales: of the dropout before the last layer, while training.

        Raises:
            ValueError: as ``Encoder.encode``.
        """
        tokens = self.encoder.encode_unnormalized(clip, branch_scales)
        logits: Tensor = self.classifier(mean_token(tokens), dropout_scales)
        return logits


def without_norm(encoder: Encoder) -> Encoder:
    """The encoder itself, its final norm and the parameters of that gone."""
    encoder.norm = nn.Identity()
    return encoder


def mean_token(
    tokens: Float[Tensor, "batch slices rows columns dim"],
) -> Float[Tensor, "batch dim"]:
    """Mean over all tokens of each clip, added up in float32."""
    return tokens.float().mean(dim=(1, 2, 3)).to(tokens.dtype)
