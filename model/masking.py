"""Tube masks: the same patches are hidden in every slice of a clip (protocols 1.1).

Axes: ``patches`` are the patches of one frame; ``tokens`` are the tubelets of a clip.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig


def tube_masks(config: ModelConfig, seeds: Sequence[int]) -> Bool[Tensor, "batch patches"]:
    """One mask per seed, True: hidden; exactly ``config.num_masked_patches`` are.

    A mask depends on its own seed alone, not on its place in the batch, so that the same clip of
    the same epoch is masked alike for every number of ranks. Seeds are integers in [0, 2**64).
    """
    mask = torch.zeros(len(seeds), config.num_patches, dtype=torch.bool)
    if not seeds:
        return mask
    # The raw stream of a bit generator is the part of numpy that never changes between versions.
    draws = np.stack([np.random.Philox(key=seed).random_raw(config.num_patches) for seed in seeds])
    order = torch.from_numpy(np.argsort(draws, axis=1, kind="stable"))
    return mask.scatter_(1, order[:, : config.num_masked_patches], value=True)


def split_tokens(
    config: ModelConfig, mask: Bool[Tensor, "batch patches"]
) -> tuple[Int[Tensor, "batch visible"], Int[Tensor, "batch hidden"]]:
    """Token numbers of the visible and of the hidden tubelets, both ascending.

    Args:
        config: shape of the clip, and how many patches a mask hides.
        mask: True: hidden, in every slice.

    Raises:
        ValueError: a mask hides another number of patches. Seen only when ``mask`` is on the CPU:
            elsewhere the test would make the host wait for the device.
    """
    if mask.is_cpu and not bool((mask.sum(dim=1) == config.num_masked_patches).all()):
        raise ValueError(
            f"masks hide {sorted(set(mask.sum(dim=1).tolist()))} of {mask.shape[1]} patches; "
            f"mask_ratio={config.mask_ratio} asks for {config.num_masked_patches} in every clip"
        )
    num_visible = config.num_patches - config.num_masked_patches
    order = torch.argsort(mask.to(torch.uint8), dim=1, stable=True)
    slices = torch.arange(config.num_slices, device=mask.device)[:, None] * config.num_patches
    tokens = order[:, None, :] + slices  # batch slices patches
    return tokens[..., :num_visible].flatten(1), tokens[..., num_visible:].flatten(1)
