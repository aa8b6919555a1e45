"""A DeepSpeed engine's state to and from the pieces of a commit.

The state of AdamW exists only for the part of the weights that a rank owns. DeepSpeed's own
checkpoints are pickles tied to the number of ranks and the ZeRO stage, so the part is cut back into
fragments of parameters here, which any number of ranks can read at any stage.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import WEIGHTS_FILE, Commit
from sigma_pipeline.jobs.masters import flat_masters, owned_fragments
from sigma_pipeline.jobs.pieces import Piece, Wanted, read_wanted, write_pieces

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps per element. The master weights are not stored beside them: the weights of a
commit are the masters."""


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
    for flat in flat_masters(engine):
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
    weights: Mapping[str, Tensor], storage: Storage, prefix: str, folder: Path
) -> tuple[list[Piece], str]:
    """Puts all weights as one file; returns their pieces and the sha256 of the file."""
    path = folder / WEIGHTS_FILE
    pieces = write_pieces(path, weights, {})
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
