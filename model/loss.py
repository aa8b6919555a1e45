"""Symmetric prediction of assignments (protocols 1.3)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sigma_pipeline.model.sinkhorn import Assignment


def cosine_scores(
    features: Float[Tensor, "tokens dim"], prototypes: Float[Tensor, "prototypes dim"]
) -> Float[Tensor, "tokens prototypes"]:
    """Cosine similarity of features and prototypes, whose rows are taken to be unit vectors.

    At least float32, also inside autocast: half precision moves a cosine by up to 1e-3, and what
    is divided by epsilon afterwards by 3 %.
    """
    dtype = torch.promote_types(features.dtype, torch.float32)
    with torch.autocast(features.device.type, enabled=False):
        return F.normalize(features.to(dtype), dim=-1) @ prototypes.to(dtype).T


def assignment_loss(
    scores: Float[Tensor, "tokens prototypes"], assignment: Assignment, temperature: float
) -> Float[Tensor, ""]:
    """Mean cross-entropy between scores of one branch and the assignment of the other."""
    return F.cross_entropy(scores / temperature, assignment)


@torch.no_grad()
def normalize_prototypes(
    weight: Float[Tensor, "prototypes dim"],
) -> Float[Tensor, "prototypes dim"]:
    """The prototypes brought back to the unit sphere, as a new tensor."""
    return F.normalize(weight, dim=-1)
