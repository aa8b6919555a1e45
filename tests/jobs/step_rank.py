"""A rank that takes a few steps on made-up clips and leaves commits; also run as a program.

Arguments: rank, number of ranks, folder. The folder has ``cases.json``, a list of cases that are
taken in order and left in its ``store``; the rank writes ``<rank>.json`` with what it saw.
"""

import json
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs import sigma_objective
from sigma_pipeline.jobs.checkpoints import (
    MOMENTS,
    load_weights,
    restore_optimizer,
    write_optimizer,
    write_weights,
)
from sigma_pipeline.jobs.commit_snapshot import Snapshot
from sigma_pipeline.jobs.commits import (
    Commit,
    commit_prefix,
    newest_commit,
    put_commit,
)
from sigma_pipeline.jobs.config import TrainConfig
from sigma_pipeline.jobs.control import Agreement
from sigma_pipeline.jobs.distributed import RankContext, init_ranks
from sigma_pipeline.jobs.engine import build_engine
from sigma_pipeline.jobs.masters import (
    own_parameters_fetched,
    owned_fragments,
    whole_master,
)
from sigma_pipeline.jobs.pieces import Piece, Wanted
from sigma_pipeline.jobs.sigma_objective import SigmaObjective
from sigma_pipeline.jobs.tensor_pieces import read_wanted
from sigma_pipeline.jobs.train_request import RankPlace
from sigma_pipeline.jobs.train_step import TrainStep
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import build_sigma
from sigma_pipeline.model.weights import restore_weights
from tests.jobs.plain_engine import PlainEngine


@dataclass(frozen=True)
class Case:
    """Steps from the untrained model, or from where another case ended."""

    name: str
    model: ModelConfig
    train: TrainConfig
    steps: int = 2
    rate: float = 3e-3
    after: str | None = None

    is_exact: bool = False
    """In float64, without DeepSpeed and without a commit; ``<name>.safetensors`` has what came."""

    def to_json(self) -> dict[str, Any]:
        """For ``cases.json``."""
        record = {item.name: getattr(self, item.name) for item in fields(self)}
        return record | {name: record[name].model_dump(mode="json") for name in ("model", "train")}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Case":
        """As ``to_json`` wrote it."""
        model, train = ModelConfig(**record["model"]), TrainConfig(**record["train"])
        return cls(**record | {"model": model, "train": train})


@dataclass
class Seen:
    """What one rank saw of a case."""

    losses: list[float] = field(default_factory=list)
    """Over all ranks, of each step."""
    gradient_norms: list[float] = field(default_factory=list)
    are_applied: list[bool] = field(default_factory=list)
    master_norms: list[float] = field(default_factory=list)
    """Of each prototype, after the last step."""
    module_norms: list[float] = field(default_factory=list)
    fragments: list[tuple[str, int, int]] = field(default_factory=list)


def share(train: TrainConfig, context: RankContext) -> list[Batch]:
    """This rank's micro-batches of one global batch, which is the same for any rank count."""
    draws = torch.Generator().manual_seed(5)
    shape = (train.global_batch_clips, 3, 4, 32, 32)
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
    places = torch.arange(train.global_batch_clips)
    mine = places.chunk(context.world_size)[context.rank]
    return [Batch(clips[part], 0, part, part, part) for part in mine.split(train.micro_batch_clips)]


def start_engine(case: Case, context: RankContext, storage: Storage) -> Any:
    """An engine as the case before left it, through its commit."""
    model = build_sigma(case.model, 0)
    commit = newest_commit(storage, case.after) if case.after else None
    if commit is not None:
        restore_weights(model, load_weights(storage, commit))
    engine = build_engine(model, case.train, len(share(case.train, context)), context.device)
    if commit is not None:
        restore_optimizer(engine, storage, commit)
    return engine


def take_steps(case: Case, context: RankContext, folder: Path) -> Seen:
    """Takes the steps of a case and commits what came of them."""
    storage = open_storage(str(folder / "store"))
    engine = start_engine(case, context, storage)
    batches, seen = share(case.train, context), Seen()
    step = TrainStep(engine, context, SigmaObjective(case.model, 0))
    for _ in range(case.steps):
        outcome = step(batches, case.rate)
        seen.losses.append(mean_over_ranks(outcome.numbers["loss"], context))
        seen.gradient_norms.append(outcome.gradient_norm)
        seen.are_applied.append(outcome.is_applied)
    seen.master_norms = whole_master(engine.module.prototypes).norm(dim=1).tolist()
    with own_parameters_fetched(engine.module):
        seen.module_norms = engine.module.prototypes.float().norm(dim=1).tolist()
    seen.fragments = [(f.parameter, f.start, f.length) for f in owned_fragments(engine)]
    commit(case, engine, context, folder)
    return seen


def commit(case: Case, engine: Any, context: RankContext, folder: Path) -> None:
    """As ``CommitWriter`` does it, without a run around it."""
    storage, prefix = open_storage(str(folder / "store")), commit_prefix(case.name, 1, "a")
    snapshot = Snapshot(engine, has_weights=context.is_first)
    snapshot.begin()
    snapshot.copy()
    path = folder / f"optimizer-{context.rank}.safetensors"
    parts = context.gather(
        write_optimizer(snapshot.moments, snapshot.starts, storage, prefix, path)
    )

    def put() -> None:
        pieces, sha256 = write_weights(snapshot.weights, storage, prefix, folder)
        put_commit(storage, commit_of(case, pieces, parts, sha256, snapshot.optimizer_steps))

    context.from_first(put)


def commit_of(
    case: Case, weights: list[Piece], parts: list[list[Piece]], sha256: str, steps: int
) -> Commit:
    facts: dict[str, Any] = {"epoch": 0, "batch": 0, "global_batch_clips": 8, "world_size": 1}
    return Commit(
        run_name=case.name,
        step=1,
        attempt="a",
        config_fingerprint="f",
        datasets=(),
        model={},
        weights_sha256=sha256,
        canary_loss=0.0,
        optimizer_steps=steps,
        has_optimizer=True,
        weights=tuple(weights),
        optimizer=tuple(piece for part in parts for piece in part),
        **facts,
    )


def committed(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """Weights and moments that a case left, whole, by name."""
    storage = open_storage(str(folder / "store"))
    found = newest_commit(storage, name)
    weights = load_weights(storage, found)
    wanted = [
        Wanted(f"{moment}/{name}", 0, tensor.numel())
        for moment in MOMENTS
        for name, tensor in weights.items()
    ]
    values = read_wanted(storage, found.prefix, found.optimizer, wanted)
    shapes = [tensor.shape for _ in MOMENTS for tensor in weights.values()]
    return weights | {
        want.tensor: value.view(shape)
        for want, value, shape in zip(wanted, values, shapes, strict=True)
    }


def mean_over_ranks(value: torch.Tensor, context: RankContext) -> float:
    return float(context.reduce(value.double(), dist.ReduceOp.SUM)) / context.world_size


def exact_step(case: Case, context: RankContext) -> dict[str, torch.Tensor]:
    """Loss, assignments and gradients of one step in float64, without DeepSpeed."""
    batches = share(case.train, context)
    engine: Any = PlainEngine(build_sigma(case.model, 0).double(), case.train, len(batches))
    with patch.object(sigma_objective, "renormalize_prototypes", PlainEngine.renormalize):
        outcome = TrainStep(engine, context, SigmaObjective(case.model, 0))(batches, case.rate)
    branches = [torch.cat(engine.assigned[branch::2]) for branch in (0, 1)]
    gathered = context.all_gather(branches)
    return {
        "loss": torch.tensor(
            mean_over_ranks(outcome.numbers["loss"], context), dtype=torch.float64
        ),
        "target": torch.cat([rank[0] for rank in gathered]),
        "prediction": torch.cat([rank[1] for rank in gathered]),
        **{name: gradient.clone() for name, gradient in engine.gradients.items()},
    }


def plain_steps(case: Case, context: RankContext) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses, and weights and moments at the end, of a case without DeepSpeed on one rank."""
    batches = share(case.train, context)
    engine: Any = PlainEngine(build_sigma(case.model, 0), case.train, len(batches))
    step = TrainStep(engine, context, SigmaObjective(case.model, 0))
    with patch.object(sigma_objective, "renormalize_prototypes", PlainEngine.renormalize):
        losses = [float(step(batches, case.rate).numbers["loss"]) for _ in range(case.steps)]
    return losses, engine.state()


def agree(context: RankContext) -> list[bool]:
    """What this rank hears when only the last rank wishes to stop, at the second call."""
    agreement = Agreement(context.control_group)
    wisher = context.rank == context.world_size - 1
    return [bool(agreement.exchange([wisher and call == 1])[0]) for call in range(4)]


def main(rank: int, world_size: int, folder: Path) -> None:
    """Takes the cases of the folder."""
    cases = [Case.from_json(record) for record in json.loads((folder / "cases.json").read_text())]
    place = RankPlace(rank, world_size, rank, str(folder / "rendezvous"))
    seen = {}
    with init_ranks(place, 1) as context:
        for case in cases:
            if case.is_exact:
                found = exact_step(case, context)
                save_file(found, folder / f"{case.name}-{rank}.safetensors")
            else:
                seen[case.name] = asdict(take_steps(case, context, folder))
        seen["agreed"] = agree(context)
    (folder / f"{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
