"""Symmetric prediction of assignments (protocols 1.3)."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sigma_pipeline.model.products import product
from sigma_pipeline.model.scores import CosineScores, row_parts
from sigma_pipeline.model.sinkhorn import Assignment


def assignment_loss(
    scores: CosineScores,
    assignment: Assignment,
    temperature: float,
    gradient_dtype: torch.dtype | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy between scores of one branch and the assignment of the other.

    Gradients for features and prototypes are computed along with the loss, part by part: neither
    the scores nor their gradient ever exist as a whole. They cannot be differentiated again.

    Args:
        scores: of all tokens.
        assignment: of the same tokens.
        temperature: what scores are divided by.
        gradient_dtype: of the factors of the product that gives the features' gradient, for
            networks that would round it anyway; that of the scores when absent. The loss, and the
            gradient of the prototypes, are exact.
    """
    gradient_dtype = gradient_dtype or scores.dtype
    inputs = (scores.features, scores.prototypes, assignment, temperature, gradient_dtype)
    loss: Tensor = _AssignmentLoss.apply(*inputs)  # type: ignore[no-untyped-call]
    return loss


@torch.no_grad()
def normalize_prototypes(
    weight: Float[Tensor, "prototypes dim"],
) -> Float[Tensor, "prototypes dim"]:
    """The prototypes brought back to the unit sphere, as a new tensor."""
    return F.normalize(weight, dim=-1)


class _AssignmentLoss(torch.autograd.Function):
    """Cross-entropy of cosines over a temperature, with its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        prototypes: Tensor,
        assignment: Assignment,
        temperature: float,
        gradient_dtype: torch.dtype,
    ) -> Tensor:
        wants_features, wants_prototypes = ctx.needs_input_grad[:2]
        to_features = torch.empty_like(features) if wants_features else None
        to_prototypes = torch.zeros_like(prototypes) if wants_prototypes else None
        centres = prototypes / temperature
        rounded = centres.to(gradient_dtype)
        loss = features.new_zeros(())
        with torch.autocast(features.device.type, enabled=False):
            for rows in row_parts(CosineScores(features, prototypes)):
                log_shares = torch.log_softmax(product(features[rows], centres), dim=1)
                part, to_logits = _cross_entropy_(log_shares, assignment[rows])
                loss += part
                if to_features is not None:
                    to_features[rows] = product(to_logits.to(gradient_dtype), rounded.T)
                if to_prototypes is not None:
                    to_prototypes += product(to_logits.T, features[rows].T)
        tokens = features.shape[0]
        ctx.gradients = (to_features, to_prototypes)
        ctx.scales = (1 / tokens, 1 / (temperature * tokens))
        return loss / tokens

    @staticmethod
    def backward(ctx: Any, *to_loss: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (
            None if gradient is None else gradient * (to_loss[0] * scale)
            for gradient, scale in zip(ctx.gradients, ctx.scales, strict=True)
        )
        return (*scaled, None, None, None)


def _cross_entropy_(log_shares: Tensor, assignment: Assignment) -> tuple[Tensor, Tensor]:
    """Summed over tokens, and its gradient for the logits, which takes the place of the shares."""
    if assignment.is_floating_point():
        loss = -torch.dot(assignment.flatten(), log_shares.flatten())
        mass = assignment.sum(dim=1, keepdim=True)
        return loss, log_shares.exp_().mul_(mass).sub_(assignment)
    labels = assignment[:, None]
    loss = -log_shares.gather(1, labels).sum()
    gradient = log_shares.exp_()
    return loss, gradient.scatter_add_(1, labels, gradient.new_full(labels.shape, -1.0))
