"""What is done in boxes of a clip: a pre-trained encoder, RoIAlign, and the head of a classifier.

The usual head of video models on AVA (protocols 5.2; Feichtenhofer et al., "SlowFast", 2019): one
map of features for the whole clip, each box cut out of it, the strongest value in the box, and a
score for each class, several of which may apply.
"""

from typing import Literal

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from sigma_pipeline.model.classifier import ClassHead, without_norm
from sigma_pipeline.model.encoder import Encoder
from sigma_pipeline.model.roi_align import roi_align

SlicePooling = Literal["mean", "max"]
"""How the time slices of a clip become one map."""


class BoxClassifier(nn.Module):
    """``encoder.*`` without its norm, and ``classifier.*``, as ``VideoClassifier`` has them."""

    def __init__(
        self, encoder: Encoder, num_classes: int, seed: int, slices: SlicePooling = "mean"
    ) -> None:
        """Takes ``encoder`` for itself; ``seed`` is that of the head."""
        super().__init__()
        self.encoder = without_norm(encoder)
        self.classifier = ClassHead(encoder.config.encoder.embed_dim, num_classes, seed)
        self._slices = slices

    def forward(
        self,
        clip: UInt8[Tensor, "batch channels frames height width"],
        boxes: Float[Tensor, "batch boxes corners=4"],
        branch_scales: Float[Tensor, "batch blocks halves"] | None = None,
        dropout_scales: Float[Tensor, "batch dim"] | None = None,
    ) -> Float[Tensor, "batch boxes classes"]:
        """Scores of each box, before the sigmoid.

        Args:
            clip: RGB in [0, 255], of as many frames as the encoder takes or fewer.
            boxes: x1, y1, x2, y2 as parts of width and height.
            branch_scales: of stochastic depth, while training.
            dropout_scales: of the dropout before the last layer, while training; of all boxes of a
                clip.

        Raises:
            ValueError: as ``Encoder.encode``.
        """
        tokens = self.encoder.encode_unnormalized(clip, branch_scales)
        by_time = tokens.float()  # RoIAlign interpolates, which bfloat16 is too coarse for
        maps = by_time.mean(dim=1) if self._slices == "mean" else by_time.amax(dim=1)
        strongest = roi_align(maps.movedim(-1, 1), boxes).amax(dim=(-2, -1)).to(tokens.dtype)
        scales = None if dropout_scales is None else dropout_scales[:, None].expand_as(strongest)
        logits: Tensor = self.classifier(strongest, scales)
        return logits
