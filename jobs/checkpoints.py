"""A DeepSpeed engine's state to and from the pieces of a commit.

ZeRO stages 1 and 2 flatten each parameter group and give every rank one equal part of it; the state
of AdamW exists for that part alone. DeepSpeed's own checkpoints are pickles tied to the number of
ranks, so the part is cut back into fragments of parameters here, which any rank count can read.

This leans on names of DeepSpeed 0.19 that are not documented: ``single_partition_of_fp32_groups``,
``bit16_groups``, ``_hp_mapping``. A test fails when they change.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import WEIGHTS_FILE, Commit
from sigma_pipeline.jobs.pieces import Piece, Wanted, read_wanted, write_pieces

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps per element. The master weights need not be stored beside them: in fp32 and
under autocast they are equal to the weights."""


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


def owned_fragments(engine: "DeepSpeedEngine") -> list[Fragment]:
    """What this rank owns, in the order of the parameter groups."""
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    zero = engine.optimizer
    return [
        Fragment(
            parameter=names[id(parameter)],
            start=mapping.lp_fragment_address.start,
            length=mapping.lp_fragment_address.numel,
            flat=flat,
            flat_start=mapping.hp_fragment_address.start,
        )
        for group, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True)
        for parameter in group
        if (mapping := parameter._hp_mapping) is not None
    ]


def optimizer_steps(engine: "DeepSpeedEngine") -> int:
    """Updates applied so far; 0 before the first."""
    states = list(_inner_state(engine).values())
    return int(states[0]["step"]) if states else 0


def write_optimizer(
    engine: "DeepSpeedEngine", storage: Storage, prefix: str, folder: Path, *, file: str
) -> list[Piece]:
    """Puts the moments that this rank owns as ``prefix/file``; no other rank is asked.

    Args:
        engine: after at least one step.
        storage: where the commit goes.
        prefix: key of the commit's folder.
        folder: on this machine, for the file on its way.
        file: a name that no other rank uses.
    """
    state = _inner_state(engine)
    tensors, starts = {}, {}
    for fragment in owned_fragments(engine):
        for moment in MOMENTS:
            name = f"{moment}/{fragment.parameter}"
            tensors[name] = fragment.of(state[fragment.flat][moment])
            starts[name] = fragment.start
    pieces = write_pieces(folder / file, tensors, starts)
    storage.upload(folder / file, f"{prefix}/{file}")
    return pieces


def restore_optimizer(engine: "DeepSpeedEngine", storage: Storage, commit: Commit) -> None:
    """Gives a fresh engine the moments and the step count of a commit.

    Raises:
        StageError: the commit lacks something that this rank owns, or is damaged.
    """
    inner = engine.optimizer.optimizer
    fragments = owned_fragments(engine)
    for flat in engine.optimizer.single_partition_of_fp32_groups:
        # Padding behind the last parameter gets zeros, as it had.
        inner.state[flat] = {moment: torch.zeros_like(flat.detach()) for moment in MOMENTS}
        # One tensor per group: AdamW counts them up in place.
        inner.state[flat]["step"] = _step_tensor(inner, flat, commit.optimizer_steps)
    for moment in MOMENTS:
        wanted = [Wanted(f"{moment}/{f.parameter}", f.start, f.length) for f in fragments]
        values = read_wanted(storage, commit.prefix, commit.optimizer, wanted)
        for fragment, value in zip(fragments, values, strict=True):
            fragment.of(inner.state[fragment.flat][moment]).copy_(value)


def write_weights(
    model: nn.Module, storage: Storage, prefix: str, folder: Path
) -> tuple[list[Piece], str]:
    """Puts all weights as one file; returns their pieces and the sha256 of the file."""
    path = folder / WEIGHTS_FILE
    pieces = write_pieces(path, model.state_dict(), {})
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    storage.upload(path, f"{prefix}/{WEIGHTS_FILE}")
    return pieces, sha256


def _inner_state(engine: "DeepSpeedEngine") -> dict[Tensor, dict[str, Any]]:
    state: dict[Tensor, dict[str, Any]] = engine.optimizer.optimizer.state
    return state


def _step_tensor(optimizer: torch.optim.Optimizer, flat: Tensor, steps: int) -> Tensor:
    """As AdamW makes it: beside the parameter for the fused kernel, else on the CPU."""
    device = flat.device if optimizer.defaults.get("fused") else "cpu"
    return torch.tensor(float(steps), dtype=torch.float32, device=device)
