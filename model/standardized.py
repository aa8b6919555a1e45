"""Mean 0 and deviation 1: what both pixels and teachers' features are brought to as targets."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

DEVIATION_GUARD = 1e-6


def standardized(values: Float[Tensor, "*axes"], dim: int) -> Float[Tensor, "*axes"]:
    """``(x - mean) / (deviation + 1e-6)`` along one axis, with the unbiased deviation.

    What is constant along the axis becomes zeros (protocols 1.2).
    """
    centred = values - values.mean(dim=dim, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=dim, keepdim=True)
    deviation = length / math.sqrt(max(1, values.shape[dim] - 1))
    normalized: Tensor = centred / (deviation + DEVIATION_GUARD)
    return normalized
