"""Similarities of tokens to prototypes, computed where they are needed.

The matrix of all scores is by far the largest tensor of a step: tokens times prototypes, where the
features that it follows from have tokens times a few hundred. So features are what is handed on,
and each part of the matrix is computed, used and forgotten by whoever needs it.

Axes: ``tokens`` hidden tokens of all clips of a batch, ``prototypes`` cluster centres.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sigma_pipeline.model.products import product

CPU_PART_BYTES = 6 * 2**20
"""Fits the caches, so that all that is done to a part of a matrix reads memory once; and large
enough for products of parts to reach the speed of those of wholes."""
DEVICE_PART_BYTES = 256 * 2**20
"""Large enough to fill a GPU, small beside its memory."""


@dataclass(frozen=True)
class CosineScores:
    """The cosines between unit features and unit prototypes; rows of the matrix by slicing."""

    features: Float[Tensor, "tokens dim"]
    prototypes: Float[Tensor, "prototypes dim"]

    @property
    def shape(self) -> tuple[int, int]:
        """Tokens and prototypes."""
        return self.features.shape[0], self.prototypes.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Of the scores: float32, or float64."""
        return self.features.dtype

    @property
    def device(self) -> torch.device:
        """Where they are computed."""
        return self.features.device

    def __getitem__(self, rows: slice) -> Float[Tensor, "rows prototypes"]:
        """Scores of some of the tokens, as a new tensor."""
        with torch.autocast(self.device.type, enabled=False):
            return product(self.features[rows], self.prototypes)

    def __mul__(self, factor: float) -> "CosineScores":
        """As many times the numbers, for no more than the prototypes' worth of work."""
        return CosineScores(self.features, self.prototypes * factor)

    def matrix(self) -> Float[Tensor, "tokens prototypes"]:
        """All of them."""
        return self[:]

    def detach(self) -> "CosineScores":
        """The same numbers, through which no gradient flows."""
        return CosineScores(self.features.detach(), self.prototypes.detach())


Scores = Float[Tensor, "tokens prototypes"] | CosineScores
"""Given as a matrix, or as what it follows from."""


def cosine_scores(
    features: Float[Tensor, "tokens dim"], prototypes: Float[Tensor, "prototypes dim"]
) -> CosineScores:
    """Cosines of features of any length and prototypes, whose rows are taken to be unit vectors.

    At least float32, also inside autocast: half precision moves a cosine by up to 1e-3, and what
    is divided by epsilon afterwards by 3 %.
    """
    dtype = torch.promote_types(features.dtype, torch.float32)
    # In columns that lie together, which oneDNN multiplies a quarter faster than rows.
    columns = prototypes.to(dtype).T.contiguous()
    return CosineScores(F.normalize(features.to(dtype), dim=-1), columns.T)


def joined_scores(parts: Sequence[CosineScores]) -> CosineScores:
    """Scores of the tokens of all parts, whose prototypes are the same."""
    return CosineScores(torch.cat([part.features for part in parts]), parts[0].prototypes)


def row_parts(scores: Scores) -> Iterator[slice]:
    """Cuts the rows so that a part of the matrix is worked on while it is in the cache."""
    tokens, prototypes = scores.shape
    part_bytes = CPU_PART_BYTES if scores.device.type == "cpu" else DEVICE_PART_BYTES
    rows = max(1, part_bytes // (prototypes * max(4, scores.dtype.itemsize)))
    return (slice(start, min(start + rows, tokens)) for start in range(0, tokens, rows))
