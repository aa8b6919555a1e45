"""Labels of many tokens, from features to labels: ours, and the plain reference's."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sigma_pipeline.model.scores import cosine_scores
from sigma_pipeline.model.sinkhorn import measured_assignments
from tests.bench.model_reference import plain_sinkhorn
from tests.bench.model_step import CONFIG

TOKENS = 45_000


def features() -> tuple[Tensor, Tensor]:
    """Of tokens, [tokens, dim], and of the prototypes that they lie around, [prototypes, dim].

    So do those of a model in training.
    """
    draws = torch.Generator().manual_seed(0)
    dim = CONFIG.target.dim
    prototypes = F.normalize(torch.randn(CONFIG.prototypes, dim, generator=draws), dim=1)
    near = torch.randint(0, CONFIG.prototypes, (TOKENS,), generator=draws)
    noise = torch.randn(TOKENS, dim, generator=draws)
    return noise.mul_(0.1).add_(prototypes[near]), prototypes


def our_labels(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """By vectors of scales."""
    return measured_assignments(cosine_scores(tokens, prototypes), CONFIG)[0]


def plain_labels(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """By rescaling the whole matrix."""
    return plain_sinkhorn(F.normalize(tokens, dim=1) @ prototypes.T, CONFIG.sinkhorn)


LABELS = {"ours": our_labels, "reference": plain_labels}
