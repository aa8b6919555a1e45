"""Everything that training needs before its first step, as the newest commit left it."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.loader import TrainLoader
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.canary import Canary, check_canary, load_canary, store_canary
from sigma_pipeline.jobs.checkpoints import restore_optimizer
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.engine import build_engine
from sigma_pipeline.jobs.objective import Objective
from sigma_pipeline.jobs.preflight import naming_rank
from sigma_pipeline.jobs.train_batches import batches_through_outages
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_resume import Resumable, find_resumable
from sigma_pipeline.model.weights import restore_weights

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine


@dataclass(frozen=True)
class TrainStart:
    """Data, engine, and where to go on."""

    batches: Iterator[list[Batch]]
    """This rank's micro-batches of each global batch, from the next one on, without end."""
    batches_per_epoch: int
    objective: Objective
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
    objective = request.objective()
    objective.check(context)
    indexes = [Index.load(storage, ref, Path(request.scratch_dir)) for ref in request.datasets]
    datasets = tuple(asdict(index.ref) | {"root_hash": index.root_hash} for index in indexes)
    pool = Pool([objective.samples(index) for index in indexes])
    loader = _build_loader(request, context, storage, objective, pool)
    found = find_resumable(request, context, storage, datasets)
    commit = found.commit
    engine = _build_engine(request, context, storage, objective, found, loader.accumulation_steps)
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
        kept = objective.canary(first[0])
        context.from_first(lambda: store_canary(storage, request.run_name, kept))
    return TrainStart(
        batches,
        loader.batches_per_epoch,
        objective,
        engine,
        commit,
        load_canary(storage, request.run_name),
        datasets,
        pool,
    )


def _build_engine(
    request: TrainRequest,
    context: RankContext,
    storage: Storage,
    objective: Objective,
    found: Resumable,
    accumulation_steps: int,
) -> "DeepSpeedEngine":
    """With the weights and the optimizer's state of the commit that is resumed."""
    model, commit = objective.build(storage), found.commit
    if commit is not None:
        restore_weights(model, found.weights)
        canary = load_canary(storage, request.run_name)
        check_canary(objective, model.to(context.device), canary, commit)
    engine = build_engine(
        model, request.train, accumulation_steps, context.device, objective.lr_scale
    )
    if commit is not None and commit.has_optimizer:
        restore_optimizer(engine, storage, commit)
    return engine


def _build_loader(
    request: TrainRequest,
    context: RankContext,
    storage: Storage,
    objective: Objective,
    pool: Pool,
) -> TrainLoader:
    train = request.train
    return TrainLoader(
        storage,
        pool.indexes,
        objective.plan(pool),
        weights=list(train.weights.values()),
        loader=train.loader,
        global_batch_clips=train.global_batch_clips,
        micro_batch_clips=train.micro_batch_clips,
        rank=context.rank,
        world_size=context.world_size,
        cache_dir=Path(request.scratch_dir, "ranges"),
    )
