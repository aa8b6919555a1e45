"""Balanced assignment of features to prototypes by Sinkhorn-Knopp (protocols 1.3).

Axes: ``tokens`` hidden tokens of all clips of a batch, ``prototypes`` cluster centres.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.kernel import Kernel
from sigma_pipeline.model.scores import Scores

SumOverRanks = Callable[[Tensor], Tensor]
"""Adds a ``prototypes`` vector over all ranks; every rank gets the sum, equal to the last bit."""

Assignment = Int[Tensor, " tokens"] | Float[Tensor, "tokens prototypes"]
"""What a token belongs to: one prototype by its number, or every prototype by a share."""

WIDEST_SPREAD = 1.5e15
"""Of column sums, exp(35). What the kernel's floor of exp(-70) adds to the smallest of them is then
below 1e-11 of it."""
MOST_SHIFTS = 8
"""In one round. Each takes 35 off a range of exponents that is 2 / 0.01 at most."""


class Balance(NamedTuple):
    """A plan, before it is written out: kernel * column_scale, rows normalized."""

    kernel: Kernel
    column_scale: Float[Tensor, " prototypes"]
    marginal_error: Float[Tensor, ""]
    """Share of the mass that lay on the wrong prototypes when the last round began. What is left
    after it is less, and would take one more sum over ranks to tell."""


def only_this_rank(vector: Tensor) -> Tensor:
    """Stands for the sum over ranks where there is one rank."""
    return vector


@torch.no_grad()
def balance(
    scores: Scores,
    epsilon: float,
    iterations: int,
    sum_over_ranks: SumOverRanks = only_this_rank,
) -> Balance:
    """Balances assignments so that every prototype is used equally.

    Without this all tokens may fall on one prototype, and predicting them becomes trivial.

    Rounds change two vectors of scales and never the kernel, whose parts are read once per round:
    the scales of their rows, then their share of the sums of the columns. Half precision is
    computed in float32, also inside autocast: cosines divided by epsilon do not fit it.

    Args:
        scores: cosine similarity of each token to each prototype, in [-1, 1].
        epsilon: temperature; lower means closer to one-hot. At least 0.01.
        iterations: number of rounds.
        sum_over_ranks: called once per round, with one vector; and again where the kernel has to
            be shifted, for which the host waits. That happens below an epsilon of 2 / 70 only.
    """
    kernel = Kernel(scores, epsilon)
    column_scale = None
    for _ in range(iterations):
        column_sum = sum_over_ranks(kernel.column_sum(column_scale))
        mass = column_sum if column_scale is None else column_sum * column_scale
        if kernel.has_floor:
            column_sum = _in_reach(kernel, column_sum, mass.mean(), sum_over_ranks)
        # The largest scale is 1, and none is above it: sums of the rows cannot overflow.
        column_scale = column_sum.amin() / column_sum
    assert column_scale is not None  # iterations are positive
    share = mass / mass.sum()
    return Balance(kernel, column_scale, (share - 1 / share.shape[0]).abs().sum() / 2)


def _in_reach(
    kernel: Kernel, column_sum: Tensor, mean_mass: Tensor, sum_over_ranks: SumOverRanks
) -> Tensor:
    """Column sums that the kernel's floor has no part in; it is shifted until that is so.

    Every rank comes to the same decisions, as sums over ranks are the same on all of them.
    """
    for _ in range(MOST_SHIFTS):
        if not bool(column_sum.amax() > column_sum.amin() * WIDEST_SPREAD):
            break
        kernel.shift(mean_mass / column_sum)
        column_sum = sum_over_ranks(kernel.column_sum(None))
    return column_sum


@torch.no_grad()
def balanced_assignment(
    scores: Scores,
    epsilon: float,
    iterations: int,
    sum_over_ranks: SumOverRanks = only_this_rank,
) -> Float[Tensor, "tokens prototypes"]:
    """The plan of ``balance``, which see, as a matrix.

    Each row sums to 1. Over all ranks each column sums to the same number, up to the error left
    after ``iterations`` rounds.
    """
    plan = balance(scores, epsilon, iterations, sum_over_ranks)
    return plan.kernel.plan(plan.column_scale)


def assignments(
    scores: Scores,
    config: ModelConfig,
    sum_over_ranks: SumOverRanks = only_this_rank,
) -> Assignment:
    """What the other branch has to predict for each token.

    ``config.assignment`` says which: ``hard`` gives the number of one prototype, as the released
    code does; ``soft`` the whole row of the plan, as the paper writes.
    """
    return measured_assignments(scores, config, sum_over_ranks)[0]


@torch.no_grad()
def measured_assignments(
    scores: Scores,
    config: ModelConfig,
    sum_over_ranks: SumOverRanks = only_this_rank,
) -> tuple[Assignment, dict[str, Float[Tensor, ""]]]:
    """Assignments as ``assignments`` gives them, and how good the plan behind them is.

    The numbers are ``marginal_error``, see ``Balance``, and ``plan_entropy``, the mean entropy of
    a token's row of the plan over some tokens of this rank: 0 when each belongs to one prototype, 1
    when each belongs to all alike.
    """
    sinkhorn = config.sinkhorn
    plan = balance(scores, sinkhorn.epsilon, sinkhorn.iterations, sum_over_ranks)
    numbers = {
        "marginal_error": plan.marginal_error,
        "plan_entropy": plan.kernel.row_entropy(plan.column_scale),
    }
    if config.assignment == "hard":
        return plan.kernel.labels(plan.column_scale), numbers
    return plan.kernel.plan(plan.column_scale), numbers


class Assignments(NamedTuple):
    """What the tokens belong to, in either branch."""

    target: Assignment
    prediction: Assignment
    numbers: dict[str, Tensor]
    """Of the plans, by branch."""


def assign_both(
    target: Scores,
    prediction: Scores,
    config: ModelConfig,
    sum_over_ranks: SumOverRanks = only_this_rank,
) -> Assignments:
    """Balances one branch after the other, so that one kernel at a time is in memory."""
    of_target, target_numbers = measured_assignments(target, config, sum_over_ranks)
    of_prediction, prediction_numbers = measured_assignments(prediction, config, sum_over_ranks)
    numbers = {f"{name}_target": number for name, number in target_numbers.items()}
    numbers |= {f"{name}_prediction": number for name, number in prediction_numbers.items()}
    return Assignments(of_target, of_prediction, numbers)
