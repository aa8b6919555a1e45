"""Scores to balance, and their plans worked out in other ways."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cosines(tokens: int, prototypes: int, seed: int = 0, collapse: float = 0.0) -> Tensor:
    """Scores of random features; with ``collapse`` all of them lean the same way."""
    draws = torch.Generator().manual_seed(seed)
    features = torch.randn(tokens, 16, generator=draws) + collapse
    centres = torch.randn(prototypes, 16, generator=draws)
    return F.normalize(features, dim=1) @ F.normalize(centres, dim=1).T


def as_released(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The plan in the form of protocols 1.3: a matrix, scaled by prototypes, then by tokens."""
    plan = (scores.double() / epsilon).exp().T
    plan /= plan.sum()
    for _ in range(iterations):
        plan /= plan.sum(dim=1, keepdim=True) * plan.shape[0]
        plan /= plan.sum(dim=0, keepdim=True) * plan.shape[1]
    return (plan / plan.sum(dim=0)).T


def in_logarithms(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The plan by rounds on logarithms in float64, where nothing can overflow or vanish."""
    exponents = scores.double() / epsilon
    rows = -exponents.amax(dim=1, keepdim=True)
    for _ in range(iterations):
        columns = -(exponents + rows).logsumexp(dim=0)
        rows = -(exponents + columns).logsumexp(dim=1, keepdim=True)
    return (exponents + rows + columns).exp()


def out_of_reach(tokens: int = 200, prototypes: int = 12) -> Tensor:
    """Scores of tokens near the first prototype and far from all others, not equally far."""
    scores = cosines(tokens, prototypes) * 0.2 - 0.75
    scores[:, 0] += 1.6
    return scores
