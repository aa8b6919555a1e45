"""What each part of a step takes at least: its products at full speed, its memory read once.

Nothing is counted that is computed a second time, nor what is neither a product nor a large matrix.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.flops import backward_flops, forward_flops
from sigma_pipeline.model.products import product
from tests.bench.seconds import fastest

_MATMUL_SIDE = 2048
_COPIED_FLOATS = 1 << 26


class Machine(NamedTuple):
    """What it reaches with nothing else to do."""

    flops: float
    """Per second, of a large product in the precision of the step."""
    exact_flops: float
    """In float32."""
    bytes_per_s: float
    """Read and written, of memory."""


def matmul_flops(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large product, by the fastest library at hand."""
    side = _MATMUL_SIDE
    one, other = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
    calls: list[Callable[[], object]] = [
        lambda: F.linear(one, other),
        lambda: one @ other,
        lambda: product(one, other),
    ]
    return 2 * side**3 / min(fastest(call) for call in calls)


def memory_bytes_per_s() -> float:
    """Of copying an array that no cache holds."""
    source, copy = torch.ones(_COPIED_FLOATS), torch.empty(_COPIED_FLOATS)
    return 2 * source.nbytes / fastest(lambda: copy.copy_(source))


def floors(config: ModelConfig, batch: int, parameters: int, machine: Machine) -> dict[str, float]:
    """Seconds of each part at the least."""
    forward, backward = forward_flops(config, batch), backward_flops(config, batch)
    seconds = {part: number / machine.flops for part, number in forward.items()}
    hidden = batch * config.num_masked_patches * config.num_slices
    kernel_bytes = 4 * hidden * config.prototypes
    # Written once, then read once a round and for the labels, in either branch.
    kernel_passes = 2 * (2 + config.sinkhorn.iterations)
    # Read: weight, gradient and two moments; written: all but the gradient.
    optimizer_bytes = 7 * 4 * parameters
    return {
        **seconds,
        "scores": forward["scores"] / machine.exact_flops,
        "Sinkhorn": kernel_passes * kernel_bytes / machine.bytes_per_s,
        "backward": sum(backward.values()) / machine.flops,
        "optimizer": optimizer_bytes / machine.bytes_per_s,
    }
