"""Cheap numbers that show collapse before a benchmark does.

All prototypes used by few tokens each is health; few prototypes used by all is collapse. So are
features that vary along one direction only, and plans in which every token belongs to everything.
"""

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_pipeline.model.sinkhorn import Assignment

_TOKENS_LOOKED_AT = 512  # at most: products of wide features cost as much as a small model


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


@torch.no_grad()
def effective_rank(features: Float[Tensor, "tokens dim"]) -> Float[Tensor, ""]:
    """In how many directions features vary.

    The participation ratio of the eigenvalues of their covariance, ``(sum l)^2 / sum l^2``: ``d``
    when they vary equally in ``d`` directions, 1 when all lie on a line, 0 when all are the same.
    It follows from two norms, without the eigenvalues.
    """
    centred = features - features.mean(dim=0)
    least = torch.finfo(features.dtype).tiny
    centred = centred / centred.abs().amax().clamp(min=least)  # fourth powers follow
    with torch.autocast(features.device.type, enabled=False):
        is_wide = centred.shape[1] > centred.shape[0]
        gram = centred @ centred.T if is_wide else centred.T @ centred
    trace, square = gram.trace(), gram.square().sum()
    return trace.square() / square.clamp(min=least)


@torch.no_grad()
def feature_health(
    target: Float[Tensor, "tokens out_dim"], prediction: Float[Tensor, "tokens out_dim"]
) -> dict[str, Float[Tensor, ""]]:
    """Describes the features of both branches, by some of the tokens.

    Returns:
        ``effective_rank_*``, as ``effective_rank`` says; ``feature_norm_*``: mean length.
    """
    numbers = {}
    for branch, features in (("target", target), ("prediction", prediction)):
        some = features[:: max(1, math.ceil(len(features) / _TOKENS_LOOKED_AT))].float()
        numbers[f"effective_rank_{branch}"] = effective_rank(some)
        numbers[f"feature_norm_{branch}"] = torch.linalg.vector_norm(some, dim=1).mean()
    return numbers


@dataclass(frozen=True)
class Limit:
    """A number beyond which something is wrong, and what to look at then."""

    number: str
    lowest: float
    highest: float
    meaning: str


LIMITS = (
    Limit(
        "prototypes_used_fraction",
        0.1,
        1.0,
        "few prototypes are in use; look at target.* of the model and at "
        "train.optimizer.target_lr_scale, and at model.sinkhorn.iterations",
    ),
    Limit(
        "effective_rank",
        2.0,
        math.inf,
        "features vary along one direction; look at model.temperature and "
        "train.optimizer.target_lr_scale",
    ),
    Limit(
        "plan_entropy",
        0.0,
        0.99,
        "tokens belong to all prototypes alike, so that there is nothing to predict; lower "
        "model.sinkhorn.epsilon if features are well (effective_rank)",
    ),
    Limit(
        "marginal_error",
        0.0,
        0.5,
        "prototypes are far from being used equally when Sinkhorn ends; raise "
        "model.sinkhorn.iterations or model.sinkhorn.epsilon",
    ),
    Limit(
        "feature_norm",
        1e-4,
        1e4,
        "features shrink or grow without bound; look at train.optimizer.base_lr and weight_decay",
    ),
)


def collapse_warnings(numbers: Mapping[str, float]) -> dict[str, str]:
    """What is wrong, by the name of the number that shows it; empty in health.

    Args:
        numbers: as a step gives them, with or without those of other things.
    """
    warnings = {}
    for limit in LIMITS:
        for branch in ("target", "prediction"):
            name = f"{limit.number}_{branch}"
            if name in numbers and not limit.lowest <= numbers[name] <= limit.highest:
                warnings[name] = f"{name} is {numbers[name]:.3g}: {limit.meaning}"
    return warnings


class SpikeWatch:
    """Tells a loss that is far above the recent ones; for one that is given them in order.

    Far is beyond what the recent ones vary by, taken robustly: their median and their median
    absolute deviation are not moved by the spikes among them. A loss that stays high becomes usual.
    """

    NUM_RECENT = 100
    FEWEST = 20
    """Fewer say nothing of what is usual."""
    DEVIATIONS = 6.0
    LEAST_RISE = 0.1
    """As a share of the usual value: a loss that hardly varies may rise by little."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=self.NUM_RECENT)

    def look(self, loss: float) -> float | None:
        """The usual loss, if this one is far above it; None if not, or if it is not finite."""
        if not math.isfinite(loss):
            return None
        recent = list(self._recent)
        self._recent.append(loss)
        if len(recent) < self.FEWEST:
            return None
        usual = statistics.median(recent)
        deviation = statistics.median(abs(each - usual) for each in recent)
        rise = loss - usual
        is_far = rise > self.DEVIATIONS * deviation and rise > self.LEAST_RISE * abs(usual)
        return usual if is_far else None
