"""A DeepSpeed engine's state to and from the pieces of a commit.

The state of AdamW exists only for the part of the weights that a rank owns. DeepSpeed's own
checkpoints are pickles tied to the number of ranks and the ZeRO stage, so the part is cut back into
fragments of parameters here, which any number of ranks can read at any stage.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import WEIGHTS_FILE, Commit
from sigma_pipeline.jobs.masters import flat_masters, owned_fragments
from sigma_pipeline.jobs.pieces import DamagedCommit, Piece, Wanted
from sigma_pipeline.jobs.tensor_pieces import read_wanted, write_pieces
from sigma_pipeline.model import weights as weight_files

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps per element. The master weights are not stored beside them: the weights of a
commit are the masters."""


def optimizer_steps(engine: "DeepSpeedEngine") -> int:
    """Updates applied so far; 0 before the first."""
    states = list(optimizer_state(engine).values())
    return int(states[0]["step"]) if states else 0


def optimizer_state(engine: "DeepSpeedEngine") -> dict[Tensor, dict[str, Tensor]]:
    """What AdamW keeps, by this rank's parts of the parameter groups; empty before its first step.

    Only an update changes it, as it does the weights.
    """
    state: dict[Tensor, dict[str, Tensor]] = engine.optimizer.optimizer.state
    return state


def has_finite_state(engine: "DeepSpeedEngine") -> bool:
    """Whether all numbers of this rank's masters and moments are finite."""
    state = optimizer_state(engine)
    moments = [tensors[moment] for tensors in state.values() for moment in MOMENTS]
    return all(bool(values.isfinite().all()) for values in [*flat_masters(engine), *moments])


def write_optimizer(
    moments: Mapping[str, Tensor],
    starts: Mapping[str, int],
    storage: Storage,
    prefix: str,
    path: Path,
) -> list[Piece]:
    """Puts the moments that a rank owns in the folder ``prefix``; no other rank is asked.

    Args:
        moments: see ``Snapshot``.
        starts: of each, number of its first element in the whole.
        storage: where the commit goes.
        prefix: key of the commit's folder.
        path: on this machine, for the file on its way; of a name that no other rank uses.
    """
    pieces = write_pieces(path, moments, starts)
    storage.upload(path, f"{prefix}/{path.name}")
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


def load_weights(storage: Storage, commit: Commit) -> dict[str, Tensor]:
    """All weights of a commit, on the CPU.

    Raises:
        DamagedCommit: the file is not there, or not the one that was committed.
    """
    key = f"{commit.prefix}/{WEIGHTS_FILE}"
    try:
        data = storage.read(key)
    except FileNotFoundError as error:
        raise DamagedCommit(f"{storage.uri(key)} is missing") from error
    if hashlib.sha256(data).hexdigest() != commit.weights_sha256:
        raise DamagedCommit(
            f"{storage.uri(key)} is damaged: its {len(data)} bytes are not those that were "
            "committed; use an earlier commit"
        )
    return weight_files.load_weights(data)


def _step_tensor(optimizer: torch.optim.Optimizer, flat: Tensor, steps: int) -> Tensor:
    """As AdamW makes it: beside the parameter for the fused kernel, else on the CPU."""
    device = flat.device if optimizer.defaults.get("fused") else "cpu"
    return torch.tensor(float(steps), dtype=torch.float32, device=device)
