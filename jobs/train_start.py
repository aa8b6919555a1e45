"""Everything that training needs before its first step, as the newest commit left it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.loader import Batch, TrainLoader
from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.canary import Canary, check_canary, load_canary, store_canary
from sigma_pipeline.jobs.checkpoints import restore_optimizer
from sigma_pipeline.jobs.commits import Commit, load_weights, newest_commit
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_step import batch_masks, build_engine
from sigma_pipeline.model.sigma import build_sigma
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
    dataset: dict[str, str]
    """Name, split, version and root_hash of what is read."""


def prepare_start(request: TrainRequest, context: RankContext, storage: Storage) -> TrainStart:
    """Loader and engine, with weights and optimizer of the newest commit if there is one.

    Raises:
        ConfigError: the run has other settings, or batch, ranks and micro-batches do not fit.
        MissingInputError: the dataset is not there.
        StageError: the newest commit is damaged, or cannot be resumed.
    """
    index = Index.load(storage, request.dataset)
    ref = index.ref
    dataset = {"name": ref.name, "split": ref.split, "version": ref.version}
    dataset["root_hash"] = index.root_hash
    loader = _build_loader(request, context, storage, index)
    # Looked up by one rank: between two looks an older attempt might still commit.
    commit = context.from_first(lambda: newest_commit(storage, request.run_name))
    if commit is not None:
        check_resumable(commit, request, dataset)
    engine = _build_engine(request, context, storage, loader.accumulation_steps, commit)
    batches = loader.micro_batches(commit.epoch if commit else 0, commit.batch if commit else 0)
    if commit is None:
        first = next(batches)
        batches = chain([first], batches)
        context.from_first(lambda: _store_canary(request, storage, first[0]))
    canary = load_canary(storage, request.run_name)
    if commit is not None:
        check_canary(engine.module, canary, commit)
    return TrainStart(batches, loader.batches_per_epoch, engine, commit, canary, dataset)


def check_resumable(commit: Commit, request: TrainRequest, dataset: dict[str, str]) -> None:
    """Refuses a commit of another science, or one that training cannot go on from.

    Raises:
        ConfigError: settings or data are not those that the run was begun with.
        StageError: the optimizer state was dropped.
    """
    if commit.config_fingerprint != request.config_fingerprint or commit.dataset != dataset:
        raise ConfigError(
            f"run {request.run_name!r} was begun with other settings or data (fingerprint "
            f"{commit.config_fingerprint}, now {request.config_fingerprint}; data "
            f"{commit.dataset}, now {dataset}); choose a new run_name, or the settings of then"
        )
    if commit.step > 0 and not commit.has_optimizer:
        raise StageError(
            f"commit {commit.prefix} has no optimizer state, so training cannot go on from it; "
            "choose a new run_name"
        )


def _build_loader(
    request: TrainRequest, context: RankContext, storage: Storage, index: Index
) -> TrainLoader:
    train, model = request.train, request.model
    return TrainLoader(
        storage,
        index,
        clip=train.clip,
        loader=train.loader,
        num_frames=model.num_frames,
        frame_size_px=model.frame_size_px,
        seed=request.seed,
        global_batch_clips=train.global_batch_clips,
        micro_batch_clips=train.micro_batch_clips,
        rank=context.rank,
        world_size=context.world_size,
    )


def _build_engine(
    request: TrainRequest,
    context: RankContext,
    storage: Storage,
    accumulation_steps: int,
    commit: Commit | None,
) -> "DeepSpeedEngine":
    """Weights go into the model before, moments into the engine after it is made."""
    model = build_sigma(request.model, request.seed)
    if commit is not None:
        restore_weights(model, load_weights(storage, commit))
    engine = build_engine(model, request.train, accumulation_steps, context.device)
    if commit is not None and commit.has_optimizer:
        restore_optimizer(engine, storage, commit)
    return engine


def _store_canary(request: TrainRequest, storage: Storage, batch: Batch) -> None:
    mask = batch_masks(batch, request.model, request.seed)
    store_canary(storage, request.run_name, batch.clip, mask)
