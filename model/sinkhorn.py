"""Balanced assignment of features to prototypes by Sinkhorn-Knopp (protocols 1.3).

Axes: ``tokens`` hidden tokens of all clips of a batch, ``prototypes`` cluster centres.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig

SumOverRanks = Callable[[Tensor], Tensor]
"""Adds a ``prototypes`` vector over all ranks; every rank gets the sum."""

Assignment = Int[Tensor, " tokens"] | Float[Tensor, "tokens prototypes"]
"""What a token belongs to: one prototype by its number, or every prototype by a share."""

LOWEST_EXPONENT = -70.0
"""No prototype is out of reach of a token: with entries of at least exp(-70), and the largest
column scale kept at 1, every sum of up to 10**8 tokens is a normal float32, never 0 and never
infinite. Cosines reach it only where epsilon is below 2 / 70."""


def only_this_rank(vector: Tensor) -> Tensor:
    """Stands for the sum over ranks where there is one rank."""
    return vector


@torch.no_grad()
def balanced_assignment(
    scores: Float[Tensor, "tokens prototypes"],
    epsilon: float,
    iterations: int,
    sum_over_ranks: SumOverRanks = only_this_rank,
) -> Float[Tensor, "tokens prototypes"]:
    """Turns similarities into assignments that use every prototype equally.

    Each row of the result sums to 1. Over all ranks each column sums to the same number, up to the
    error left after ``iterations`` rounds. Without this balance all tokens may fall on one
    prototype, and predicting them becomes trivial.

    Rounds change two vectors of scales and never the matrix, so that memory is that of one copy of
    ``scores``. Half precision is computed, and returned, in float32, also inside autocast: cosines
    divided by epsilon do not fit it.

    Args:
        scores: cosine similarity of each token to each prototype, in [-1, 1].
        epsilon: temperature; lower means closer to one-hot. At least 0.01.
        iterations: number of rounds.
        sum_over_ranks: called once per round, with one vector.
    """
    kernel = scores.to(torch.promote_types(scores.dtype, torch.float32), copy=True)
    # At most 0 after this: exp cannot overflow. Constants per row vanish in the scaling of rows.
    kernel.sub_(kernel.amax(dim=1, keepdim=True)).div_(epsilon).clamp_(min=LOWEST_EXPONENT).exp_()
    row_scale = kernel.new_ones(kernel.shape[0])
    with torch.autocast(scores.device.type, enabled=False):
        for _ in range(iterations):
            column_sum = sum_over_ranks(row_scale @ kernel)
            column_scale = column_sum.amin() / column_sum
            row_scale = 1 / (kernel @ column_scale)
    return kernel.mul_(column_scale).mul_(row_scale[:, None])


def assignments(
    scores: Float[Tensor, "tokens prototypes"],
    config: ModelConfig,
    sum_over_ranks: SumOverRanks = only_this_rank,
) -> Assignment:
    """What the other branch has to predict for each token.

    ``config.assignment`` says which: ``hard`` gives the number of one prototype, as the released
    code does; ``soft`` the whole row of the plan, as the paper writes.
    """
    sinkhorn = config.sinkhorn
    plan = balanced_assignment(scores, sinkhorn.epsilon, sinkhorn.iterations, sum_over_ranks)
    return plan.argmax(dim=1) if config.assignment == "hard" else plan
