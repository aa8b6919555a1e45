"""What is taken out of a DeepSpeed engine fits back into another one.

These tests also stand guard over names of DeepSpeed that are not documented.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.checkpoints import (
    optimizer_steps,
    restore_optimizer,
    write_optimizer,
)
from sigma_pipeline.jobs.commit_snapshot import Snapshot
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.engine import build_engine
from sigma_pipeline.jobs.masters import owned_fragments
from sigma_pipeline.jobs.pieces import Piece
from sigma_pipeline.jobs.sigma_objective import SigmaObjective
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_step import TrainStep
from sigma_pipeline.model.sigma import build_sigma

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of DeepSpeed's, from torch 2.13

MakeRequest = Callable[..., TrainRequest]
MakeBatches = Callable[[int], list[Batch]]


def start(request: TrainRequest, context: RankContext) -> tuple[Any, TrainStep]:
    engine = build_engine(build_sigma(request.model, 0), request.train, 2, context.device)
    return engine, TrainStep(engine, context, SigmaObjective(request.model, 0))


def put_optimizer(engine: Any, storage: Storage, prefix: str, folder: Path) -> list[Piece]:
    snapshot = Snapshot(engine, has_weights=False)
    snapshot.begin()
    snapshot.copy()
    path = folder / "o.safetensors"
    return write_optimizer(snapshot.moments, snapshot.starts, storage, prefix, path)


def commit_of(pieces: list[Piece], steps: int) -> Commit:
    facts: dict[str, Any] = {"epoch": 0, "batch": 0, "global_batch_clips": 8, "world_size": 1}
    return Commit(
        run_name="run",
        step=steps,
        attempt="a",
        config_fingerprint="f",
        datasets=(),
        model={},
        weights_sha256="",
        canary_loss=0.0,
        optimizer_steps=steps,
        has_optimizer=True,
        optimizer=tuple(pieces),
        **facts,
    )


def test_fragments_cover_every_element_of_every_parameter(
    one_rank: RankContext, make_request: MakeRequest
) -> None:
    engine, _ = start(make_request(), one_rank)

    fragments = owned_fragments(engine)

    expected = {name: p.numel() for name, p in engine.module.named_parameters()}
    assert {f.parameter: f.length for f in fragments} == expected
    for fragment in fragments:
        parameter = engine.module.get_parameter(fragment.parameter)
        assert torch.equal(fragment.of(fragment.flat), parameter.detach().flatten())


def test_a_fresh_engine_has_taken_no_step(one_rank: RankContext, make_request: MakeRequest) -> None:
    assert optimizer_steps(start(make_request(), one_rank)[0]) == 0


def test_an_engine_goes_on_from_the_state_of_another(
    one_rank: RankContext,
    make_request: MakeRequest,
    make_batches: MakeBatches,
    storage: Storage,
    tmp_path: Path,
) -> None:
    request, batches = make_request(), make_batches(4)
    engine, take_step = start(request, one_rank)
    for _ in range(3):
        take_step(batches, 1e-2)
    model = build_sigma(request.model, 1)
    model.load_state_dict(engine.module.state_dict())
    prefix = commit_of([], 3).prefix
    pieces = put_optimizer(engine, storage, prefix, tmp_path)

    other = build_engine(model, request.train, 2, one_rank.device)
    restore_optimizer(other, storage, commit_of(pieces, 3))
    take_step(batches, 1e-2)
    TrainStep(other, one_rank, SigmaObjective(request.model, 0))(batches, 1e-2)

    assert optimizer_steps(other) == optimizer_steps(engine) == 4
    for name, tensor in engine.module.state_dict().items():
        assert torch.equal(other.module.state_dict()[name], tensor), name


def test_state_that_lacks_a_parameter_is_refused(
    one_rank: RankContext,
    make_request: MakeRequest,
    make_batches: MakeBatches,
    storage: Storage,
    tmp_path: Path,
) -> None:
    engine, take_step = start(make_request(), one_rank)
    take_step(make_batches(4), 1e-2)
    prefix = commit_of([], 1).prefix
    pieces = put_optimizer(engine, storage, prefix, tmp_path)
    without = [piece for piece in pieces if piece.tensor != "exp_avg/prototypes"]

    with pytest.raises(StageError, match="holds exp_avg/prototypes only up to element 0"):
        restore_optimizer(engine, storage, commit_of(without, 1))
