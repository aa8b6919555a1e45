"""Writing a commit: all ranks bring their parts to the store, then rank 0 makes it exist."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
from sigma_pipeline.jobs.pieces import Piece
from sigma_pipeline.jobs.train_request import TrainRequest

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Position:
    """Where training stands: after ``step`` steps, before a global batch of an epoch."""

    step: int
    batches_per_epoch: int

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
        dataset: Mapping[str, str],
        canary: Canary,
    ) -> None:
        self._request = request
        self._context = context
        self._engine = engine
        self._storage = storage
        self._attempt = attempt
        self._dataset = dataset
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
        with tempfile.TemporaryDirectory(dir=self._request.scratch_dir) as folder:
            owned = self._write_optimizer(prefix, Path(folder))
            # Rank 0 goes on when every rank has brought its part.
            parts = self._context.gather(owned)
            self._context.from_first(lambda: self._put(position, parts, Path(folder), seconds))
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
        folder: Path,
        seconds: Mapping[str, float],
    ) -> None:
        """Weights, then ``commit.json``; on rank 0."""
        request, storage = self._request, self._storage
        prefix = commit_prefix(request.run_name, position.step, self._attempt)
        weights, sha256 = write_weights(self._engine.module, storage, prefix, folder)
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
            dataset=self._dataset,
            model=request.model.model_dump(mode="json"),
            weights_sha256=sha256,
            canary_loss=canary_loss(self._engine.module, self._canary),
            optimizer_steps=optimizer_steps(self._engine),
            has_optimizer=bool(optimizer),
            ledger=dict(seconds),
            weights=tuple(weights),
            optimizer=optimizer,
        )
        require_newest(storage, request.run_name, self._attempt)
        put_commit(storage, commit)
        drop_old_optimizer_states(storage, request.run_name, request.train.keep_optimizer_commits)
        log.info("Committed step %d: %s", position.step, storage.uri(prefix))
