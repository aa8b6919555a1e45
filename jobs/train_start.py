"""Everything that training needs before its first step, as the newest commit left it."""

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.clip_plan import ClipPlan
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.loader import TrainLoader
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.canary import Canary, check_canary, load_canary, store_canary
from sigma_pipeline.jobs.checkpoints import restore_optimizer
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.engine import build_engine
from sigma_pipeline.jobs.preflight import naming_rank
from sigma_pipeline.jobs.train_batches import batches_through_outages
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_resume import find_resumable
from sigma_pipeline.jobs.train_step import batch_masks
from sigma_pipeline.model.config import TargetConfig
from sigma_pipeline.model.sigma import build_sigma
from sigma_pipeline.model.teacher_source import teacher_sha256, teacher_source
from sigma_pipeline.model.weights import restore_weights

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine


@dataclass(frozen=True)
class TrainStart:
    """Data, engine, and where to go on."""

    batches: Iterator[list[Batch]]
    """This rank's micro-batches of each global batch, from the next one on, without end."""
    batches_per_epoch: int
    engine: "DeepSpeedEngine"
    commit: Commit | None
    """What is resumed; None for a new run."""
    canary: Canary
    datasets: tuple[dict[str, str], ...]
    """Name, split, version and root_hash of each that is read."""
    pool: Pool
    """All samples, by the numbers that batches give."""


def prepare_start(
    request: TrainRequest,
    context: RankContext,
    storage: Storage,
    on_outage: Callable[[], object] = lambda: None,
) -> TrainStart:
    """Loader and engine, with weights and optimizer of the newest whole commit if there is one.

    Args:
        request: what is trained.
        context: of this rank.
        storage: where the run lies.
        on_outage: see ``batches_through_outages``.

    Raises:
        ConfigError: the run has other settings, or batch, ranks and micro-batches do not fit.
        MissingInputError: the dataset is not there.
        StageError: there are commits, but none that can be resumed; or some node cannot read the
            frozen teacher, or has another one.
    """
    require_teacher(request.model.target, request.teacher_sha256, context)
    indexes = [Index.load(storage, ref, Path(request.scratch_dir)) for ref in request.datasets]
    datasets = tuple(asdict(index.ref) | {"root_hash": index.root_hash} for index in indexes)
    loader = _build_loader(request, context, storage, indexes)
    commit, weights = find_resumable(request, context, storage, datasets)
    model = build_sigma(request.model, request.seed)
    if commit is not None:
        restore_weights(model, weights)
        check_canary(model.to(context.device), load_canary(storage, request.run_name), commit)
    engine = build_engine(model, request.train, loader.accumulation_steps, context.device)
    if commit is not None and commit.has_optimizer:
        restore_optimizer(engine, storage, commit)
    batches = batches_through_outages(
        loader,
        commit.epoch * loader.batches_per_epoch + commit.batch if commit else 0,
        grace_s=60 * request.train.commit_grace_min,
        on_outage=on_outage,
    )
    if commit is None:
        with naming_rank(context):
            first = next(batches)
        batches = chain([first], batches)
        context.from_first(lambda: _store_canary(request, storage, first[0]))
    canary = load_canary(storage, request.run_name)
    return TrainStart(
        batches, loader.batches_per_epoch, engine, commit, canary, datasets, Pool(indexes)
    )


def require_teacher(target: TargetConfig, sha256: str | None, context: RankContext) -> None:
    """Looks for the frozen teacher on every node; the launcher has seen its own disk only.

    All ranks learn what each has found: none goes on alone, to wait for those that have ended.

    Args:
        target: names the teacher.
        sha256: its ``teacher_sha256`` where the job was launched; of what each node has, its first
            rank takes it.
        context: of this rank.

    Raises:
        StageError: some node cannot read it or has another one, on every rank; names hosts, path,
            both hashes, and what to do.
    """
    if target.kind != "dino":
        return
    problem = _teacher_problem(target, sha256, is_first_on_node=context.local_rank == 0)
    hosts: dict[str, set[str]] = {}
    for host, found in context.all_gather((socket.gethostname(), problem)):
        if found:
            hosts.setdefault(found, set()).add(host)
    if hosts:
        problems = (f"on {', '.join(sorted(hosts[found]))}: model.{found}" for found in hosts)
        raise StageError(
            f"the frozen teacher cannot be used {'; '.join(problems)}; put the same one where all "
            "nodes see it under this path and run the same command again"
        )


def _teacher_problem(target: TargetConfig, sha256: str | None, *, is_first_on_node: bool) -> str:
    try:
        _, path = teacher_source(target)
        here = teacher_sha256(target) if is_first_on_node else sha256
    except ValueError as error:
        return str(error)
    if here == sha256:
        return ""
    return f"target.teacher_weights={path} has sha256 {here}, and {sha256} where it was launched"


def _build_loader(
    request: TrainRequest, context: RankContext, storage: Storage, indexes: Sequence[Index]
) -> TrainLoader:
    train, model = request.train, request.model
    return TrainLoader(
        storage,
        indexes,
        ClipPlan(train.clip, model.num_frames, model.frame_size_px, request.seed),
        weights=list(train.weights.values()),
        loader=train.loader,
        global_batch_clips=train.global_batch_clips,
        micro_batch_clips=train.micro_batch_clips,
        rank=context.rank,
        world_size=context.world_size,
        cache_dir=Path(request.scratch_dir, "ranges"),
    )


def _store_canary(request: TrainRequest, storage: Storage, batch: Batch) -> None:
    mask = batch_masks(batch, request.model, request.seed)
    store_canary(storage, request.run_name, batch.clip, mask)
