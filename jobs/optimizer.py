"""Which parameters decay, and how large the steps are (protocols 1.1). Pure functions."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from sigma_pipeline.jobs.config import OptimizerConfig

LrScale = Callable[[str], float]
"""Learning rate of a parameter by its name, relative to the step's."""
REFERENCE_BATCH_CLIPS = 256
"""Learning rates are given per this many clips and scaled with the global batch."""


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies to a parameter.

    Not to vectors (biases, norms), the mask token, and the prototypes. The released code decays
    the prototypes too; since each of its forward passes brings them back to unit length, that
    changes nothing but the size of their step.
    """
    is_vector = parameter.ndim <= 1 or name.endswith(".bias")
    return not (is_vector or name.rpartition(".")[2] in {"mask_token", "prototypes"})


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    config: OptimizerConfig,
    lr_scale: LrScale = lambda _name: 1.0,
) -> list[dict[str, Any]]:
    """Trained parameters as groups of AdamW, by weight decay and ``lr_scale``; no empty ones."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            decay = config.weight_decay if decays(name, parameter) else 0.0
            groups.setdefault((decay, lr_scale(name)), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_scale": scale}
        for (decay, scale), parameters in groups.items()
    ]


def set_learning_rate(groups: Iterable[dict[str, Any]], rate: float) -> None:
    """Gives each parameter group its share of the step's learning rate."""
    for group in groups:
        group["lr"] = rate * group["lr_scale"]


def build_adamw(
    model: nn.Module, config: OptimizerConfig, lr_scale: LrScale = lambda _name: 1.0
) -> torch.optim.AdamW:
    """AdamW over a model's parameters, fused into one kernel on GPUs.

    Its learning rate is 0 until each step sets one.
    """
    is_on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    groups = parameter_groups(model.named_parameters(), config, lr_scale)
    return torch.optim.AdamW(
        groups, lr=0.0, betas=config.betas, eps=config.eps, fused=is_on_gpu or None
    )


def learning_rate(
    step: int,
    config: OptimizerConfig,
    steps_per_epoch: int,
    epochs: int,
    global_batch_clips: int,
) -> float:
    """Learning rate of one optimizer step, counted from 0.

    From 0 linearly to the peak, then along a cosine to the minimum; both are scaled with the batch.
    The cosine may be longer than the run (``schedule_epochs``); beyond its end stays the minimum.
    """
    scale = global_batch_clips / REFERENCE_BATCH_CLIPS
    peak, minimum = config.base_lr * scale, config.min_lr * scale
    warmup_steps = config.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        return peak * step / warmup_steps
    cosine_steps = (config.schedule_epochs or epochs) * steps_per_epoch - warmup_steps
    if step >= warmup_steps + cosine_steps:
        return minimum
    progress = (step - warmup_steps) / cosine_steps
    return minimum + (peak - minimum) * (1 + math.cos(math.pi * progress)) / 2
