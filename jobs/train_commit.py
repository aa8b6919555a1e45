"""Writing a commit: all ranks bring their parts to the store, then rank 0 makes it exist."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.attempts import require_newest
from sigma_pipeline.jobs.canary import Canary, canary_loss
from sigma_pipeline.jobs.checkpoints import optimizer_steps, write_optimizer, write_weights
from sigma_pipeline.jobs.commits import (
    Commit,
    commit_prefix,
    drop_old_optimizer_states,
    put_commit,
)
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.masters import has_whole_weights, whole_weights
from sigma_pipeline.jobs.pieces import Piece
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.model.sigma import Sigma, build_sigma
from sigma_pipeline.model.teachers import TeacherTarget
from sigma_pipeline.model.weights import restore_weights

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Position:
    """Where training stands: after ``step`` steps, before a global batch of an epoch."""

    step: int
    batches_per_epoch: int
    replaced_samples: int = 0
    """So far: bad samples in whose place others were taken."""

    @property
    def epoch(self) -> int:
        """Of the next global batch."""
        return self.step // self.batches_per_epoch

    @property
    def batch(self) -> int:
        """The next global batch, within its epoch."""
        return self.step % self.batches_per_epoch


class CommitWriter:
    """The commits of one attempt. Every rank has one and writes at the same steps."""

    def __init__(
        self,
        request: TrainRequest,
        context: RankContext,
        engine: "DeepSpeedEngine",
        *,
        storage: Storage,
        attempt: str,
        datasets: tuple[Mapping[str, str], ...],
        canary: Canary,
    ) -> None:
        self._request = request
        self._context = context
        self._engine = engine
        self._storage = storage
        self._attempt = attempt
        self._datasets = datasets
        self._canary = canary

    def write(self, position: Position, seconds: Mapping[str, float]) -> str:
        """Commits the engine's state; returns the key of the commit's folder.

        Args:
            position: where training stands.
            seconds: the time ledger so far.

        Raises:
            StageError: a newer attempt has started since; on every rank.
        """
        prefix = commit_prefix(self._request.run_name, position.step, self._attempt)
        Path(self._request.scratch_dir).mkdir(parents=True, exist_ok=True)
        weights = whole_weights(self._engine, is_kept=self._context.is_first)
        with tempfile.TemporaryDirectory(dir=self._request.scratch_dir) as folder:
            owned = self._write_optimizer(prefix, Path(folder))
            # Rank 0 goes on when every rank has brought its part.
            parts = self._context.gather(owned)
            put = partial(self._put, position, parts, weights, Path(folder), seconds)
            self._context.from_first(put)
        return prefix

    def _write_optimizer(self, prefix: str, folder: Path) -> list[Piece]:
        if optimizer_steps(self._engine) == 0:
            return []
        place = f"{self._context.rank:05d}-of-{self._context.world_size:05d}"
        file = f"optimizer-{place}.safetensors"
        return write_optimizer(self._engine, self._storage, prefix, folder, file=file)

    def _put(
        self,
        position: Position,
        parts: list[list[Piece]],
        weights: Mapping[str, Tensor],
        folder: Path,
        seconds: Mapping[str, float],
    ) -> None:
        """Weights, then ``commit.json``; on rank 0."""
        request, storage = self._request, self._storage
        prefix = commit_prefix(request.run_name, position.step, self._attempt)
        pieces, sha256 = write_weights(weights, storage, prefix, folder)
        optimizer = tuple(piece for part in parts for piece in part)
        commit = Commit(
            run_name=request.run_name,
            step=position.step,
            attempt=self._attempt,
            epoch=position.epoch,
            batch=position.batch,
            global_batch_clips=request.train.global_batch_clips,
            world_size=self._context.world_size,
            config_fingerprint=request.config_fingerprint,
            datasets=self._datasets,
            model=request.model.model_dump(mode="json"),
            weights_sha256=sha256,
            canary_loss=canary_loss(self._whole_model(weights), self._canary),
            optimizer_steps=optimizer_steps(self._engine),
            has_optimizer=bool(optimizer),
            replaced_samples=position.replaced_samples,
            ledger=dict(seconds),
            weights=tuple(pieces),
            optimizer=optimizer,
        )
        require_newest(storage, request.run_name, self._attempt)
        put_commit(storage, commit)
        drop_old_optimizer_states(storage, request.run_name, request.train.keep_optimizer_commits)
        log.info("Committed step %d: %s", position.step, storage.uri(prefix))

    def _whole_model(self, weights: Mapping[str, Tensor]) -> Sigma:
        """A model that has these weights, which one rank alone can call."""
        if has_whole_weights(self._engine):
            own: Sigma = self._engine.module
            return own
        model = build_sigma(self._request.model, self._request.seed)
        restore_weights(model, weights)
        if isinstance(model.head, TeacherTarget):  # frozen, no part of the weights, read once
            model.head.teacher = self._engine.module.head.teacher
        return model.to(self._context.device)
