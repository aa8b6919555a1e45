"""Cheap numbers that show collapse before a benchmark does.

All prototypes used by few tokens each is health; few prototypes used by all is collapse.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_pipeline.model.sinkhorn import Assignment


def prototype_shares(assignment: Assignment, num_prototypes: int) -> Float[Tensor, " prototypes"]:
    """Share of the tokens on each prototype; sums to 1."""
    if assignment.is_floating_point():
        return assignment.mean(dim=0)
    # Whole numbers: exact in any order of addition, and unlike bincount it never waits for a GPU.
    counts = torch.zeros(num_prototypes, dtype=torch.int64, device=assignment.device)
    counts.index_add_(0, assignment, torch.ones_like(assignment))
    return counts.float() / assignment.shape[0]


def _labels(assignment: Assignment) -> Int[Tensor, " tokens"]:
    return assignment.argmax(dim=1) if assignment.is_floating_point() else assignment


def _usage(shares: Tensor) -> Tensor:
    entropy = torch.special.entr(shares).sum()
    return entropy / math.log(shares.shape[0]) if shares.shape[0] > 1 else torch.ones_like(entropy)


@torch.no_grad()
def assignment_health(
    target: Assignment, prediction: Assignment, num_prototypes: int
) -> dict[str, Float[Tensor, ""]]:
    """Describes the assignments of both branches on this micro-batch.

    Returns:
        ``usage_entropy_*``: entropy of the shares of the prototypes, 1 when all are used equally
        and 0 when one has all; ``prototypes_used_fraction_*``: prototypes that are the first
        choice of some token; ``branch_agreement_fraction``: tokens whose first choice is the same
        in both branches. On few tokens the first two cannot reach 1.
    """
    numbers = {}
    for branch, assignment in (("target", target), ("prediction", prediction)):
        shares = prototype_shares(assignment, num_prototypes)
        chosen = prototype_shares(_labels(assignment), num_prototypes)
        numbers[f"usage_entropy_{branch}"] = _usage(shares)
        numbers[f"prototypes_used_fraction_{branch}"] = (chosen > 0).float().mean()
    agreement = (_labels(target) == _labels(prediction)).float().mean()
    return numbers | {"branch_agreement_fraction": agreement}
