"""The float32 master of every weight: what the optimizer updates, wherever ZeRO keeps it.

ZeRO flattens each parameter group and gives every rank a part of it: one run of the whole group at
stages 1 and 2, one run of each parameter at stage 3. What the module computes with is a copy that
each step overwrites; so whoever changes a weight changes its master.

This leans on names of DeepSpeed 0.19 that are not documented: those in ``_flat_groups`` and
``_owned_runs``. Tests fail when they change.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sigma_pipeline.model.loss import normalize_prototypes

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine


@dataclass(frozen=True)
class Fragment:
    """Elements of one parameter that this rank's optimizer owns."""

    parameter: str
    start: int
    """First element within the flattened parameter."""
    length: int
    flat: Tensor
    """The rank's part of the parameter group, which is what the optimizer holds state for."""
    flat_start: int
    """First element within ``flat``."""

    def of(self, flat_state: Tensor) -> Tensor:
        """This fragment's view of a tensor shaped like ``flat``."""
        return flat_state.narrow(0, self.flat_start, self.length)

    def cut(self, value: Tensor) -> Tensor:
        """This fragment's elements of a whole tensor shaped like the parameter."""
        return value.flatten().narrow(0, self.start, self.length)


def owned_fragments(engine: "DeepSpeedEngine") -> list[Fragment]:
    """What this rank owns, in the order of the parameter groups."""
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    return [
        Fragment(names[id(parameter)], start, length, flat, flat_start)
        for group, flat in _flat_groups(engine)
        for parameter, start, length, flat_start in _owned_runs(group)
    ]


def flat_masters(engine: "DeepSpeedEngine") -> list[Tensor]:
    """This rank's parts of the parameter groups, padding included."""
    return [flat for _, flat in _flat_groups(engine)]


def _flat_groups(engine: "DeepSpeedEngine") -> Iterator[tuple[list[nn.Parameter], Tensor]]:
    """Parameters of each group that the optimizer steps through, and this rank's part of it."""
    from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3

    zero = engine.optimizer
    if isinstance(zero, DeepSpeedZeroOptimizer_Stage3):
        return zip(zero.fp16_groups, zero.fp32_partitioned_groups_flat, strict=True)
    if isinstance(zero, BF16_Optimizer):
        return zip(zero.bf16_groups, zero.fp32_groups_flat_partition, strict=True)
    return zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True)


def _owned_runs(group: list[Any]) -> Iterator[tuple[nn.Parameter, int, int, int]]:
    """Parameter, first element and length of what this rank has of it, place in the flat part.

    Args:
        group: parameters with what DeepSpeed has hung on them.
    """
    flat_start = 0
    for parameter in group:
        if is_partitioned(parameter):
            size = parameter.partition_numel()
            start = dist.get_rank() * size
            # The last ranks' parts are padded, or nothing but padding.
            length = min(size, parameter.ds_numel - start)
            if length > 0:
                yield parameter, start, length, flat_start
            flat_start += size
        elif (mapping := parameter._hp_mapping) is not None:
            low, high = mapping.lp_fragment_address, mapping.hp_fragment_address
            yield parameter, low.start, low.numel, high.start


def is_partitioned(parameter: nn.Parameter) -> bool:
    """Whether ZeRO 3 keeps the parameter itself in parts."""
    return hasattr(parameter, "ds_tensor")


@contextmanager
def own_parameters_fetched(module: nn.Module) -> Iterator[None]:
    """Parameters that no part of the module has are whole inside, at ZeRO 3 too.

    The parts fetch theirs when they are called; the whole only when it is called itself.
    """
    own = list(module.parameters(recurse=False))
    if not any(is_partitioned(parameter) for parameter in own):
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(own):
        yield


def set_masters(engine: "DeepSpeedEngine", weights: Mapping[str, Tensor]) -> None:
    """Gives this rank's masters the values of whole weights; the module's copies stay."""
    with torch.no_grad():
        for fragment in owned_fragments(engine):
            fragment.of(fragment.flat).copy_(fragment.cut(weights[fragment.parameter]))


@torch.no_grad()
def whole_master(parameter: nn.Parameter) -> Tensor:
    """The float32 master of one parameter, put together from all ranks; every rank calls it."""
    from deepspeed.utils import safe_get_full_fp32_param

    master: Tensor = safe_get_full_fp32_param(parameter)
    return master


def whole_weights(engine: "DeepSpeedEngine") -> Iterator[tuple[str, Tensor]]:
    """All weights in float32 by name, one after the other, on the engine's device.

    They are the module's own where ``has_whole_weights``; else every rank has to take all of them,
    in step with the others.
    """
    are_whole = has_whole_weights(engine)
    for name, parameter in engine.module.named_parameters():
        yield name, parameter.detach() if are_whole else whole_master(parameter)


def has_whole_weights(engine: "DeepSpeedEngine") -> bool:
    """Whether the module of each rank has all weights, as exact as their masters."""
    return all(
        parameter.dtype == torch.float32 and not is_partitioned(parameter)
        for parameter in engine.module.parameters()
    )


@torch.no_grad()
def renormalize_prototypes(engine: "DeepSpeedEngine") -> None:
    """Brings the prototypes back to unit length (protocols 1.3), on every rank at once.

    The float32 master that the optimizer updates must be changed too: the module's copy alone
    would be overwritten by the next step, while the master's norm walks away unseen.
    """
    prototypes = engine.module.prototypes
    unit = normalize_prototypes(whole_master(prototypes))
    for fragment in owned_fragments(engine):
        if fragment.parameter == "prototypes":
            fragment.of(fragment.flat).copy_(fragment.cut(unit))
            if is_partitioned(prototypes):
                prototypes.ds_tensor.narrow(0, 0, fragment.length).copy_(fragment.cut(unit))
    if prototypes.numel() == unit.numel():  # at ZeRO 3 only while it is fetched
        prototypes.copy_(unit)
