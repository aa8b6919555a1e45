"""What is left out at random while training: halves of blocks, and features before a head.

The former is stochastic depth (Huang et al., 2016), the latter dropout.

Axes: ``blocks`` of the encoder; ``halves`` attention and MLP of a block.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig


def drop_rates(config: ModelConfig) -> Float[Tensor, " blocks"]:
    """How often each block's halves are left out: from 0 linearly to ``config.drop_path``."""
    return torch.linspace(0, config.drop_path, config.encoder.depth, dtype=torch.float64)


def branch_scales(
    config: ModelConfig, seeds: Sequence[int]
) -> Float[Tensor, "batch blocks halves"] | None:
    """What each half's output is multiplied by; None when ``config.drop_path`` is 0.

    0 leaves it out; otherwise it is as much above 1 as keeps the mean. The draws of a clip follow
    from its own seed alone, so that they are the same for every number of ranks, after a resume,
    and where activations are computed a second time. Seeds are integers in [0, 2**64).
    """
    if config.drop_path == 0:
        return None
    blocks = config.encoder.depth
    draws = _uniform(seeds, 2 * blocks).view(len(seeds), blocks, 2)
    rates = drop_rates(config)[:, None]
    return ((draws >= rates) / (1 - rates)).float()


def dropout_scales(
    dim: int, rate: float, seeds: Sequence[int]
) -> Float[Tensor, "batch dim"] | None:
    """What dropout multiplies each clip's ``dim`` features by; None when ``rate`` is 0.

    Drawn as ``branch_scales``, of which seeds should be others.
    """
    if rate == 0:
        return None
    return ((_uniform(seeds, dim) >= rate) / (1 - rate)).float()


def _uniform(seeds: Sequence[int], count: int) -> Float[Tensor, "batch count"]:
    """Numbers in [0, 1), in float64."""
    raw = np.stack([np.random.Philox(key=seed).random_raw(count) for seed in seeds])
    return torch.from_numpy((raw >> np.uint64(11)) * 2.0**-53)
