"""What becomes of a snapshot in the background: files in the store, then the commit.

One thread of each rank works here while its main thread trains. These threads speak with each other
over a group of their own, so nothing that they send can meet what the main threads send.
"""

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from sigma_pipeline.infra.errors import PipelineError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.attempts import Overtaken, require_newest
from sigma_pipeline.jobs.canary import CanaryModel
from sigma_pipeline.jobs.checkpoints import write_optimizer, write_weights
from sigma_pipeline.jobs.commit_clock import CommitClock
from sigma_pipeline.jobs.commit_leftovers import remove_leftovers
from sigma_pipeline.jobs.commit_snapshot import Snapshot
from sigma_pipeline.jobs.commits import (
    COMMIT_FILE,
    OPTIMIZER_STEM,
    Commit,
    commit_prefix,
    drop_old_optimizer_states,
    put_commit,
    put_hint,
)
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.pieces import Piece
from sigma_pipeline.jobs.train_request import TrainRequest

log = logging.getLogger(__name__)

SLOWEST_RANK = timedelta(hours=1)
"""To bring its part of a commit to the store."""


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


@dataclass(frozen=True)
class CommitOutcome:
    """What came of a commit; the same on every rank."""

    step: int
    prefix: str | None
    """Key of its folder; None if it was not written."""
    save_s: float = 0.0
    """From its beginning to its end."""
    problem: str = ""
    """Why it was not written."""
    grace_left_s: float = 0.0
    """How long training may still go on without one."""
    is_overtaken: bool = False
    """A newer attempt has started, so that none of this one can be written any more."""


@dataclass(frozen=True)
class _Part:
    """What one rank has brought to the store."""

    optimizer: tuple[Piece, ...] = ()
    weights: tuple[Piece, ...] = ()
    weights_sha256: str = ""
    canary_loss: float = 0.0
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class CommitFacts:
    """What all commits of an attempt have in common."""

    request: TrainRequest
    attempt: str
    datasets: tuple[Mapping[str, str], ...]


class CommitSave:
    """Writes the commits of one attempt. Every rank has one; all are called for the same steps."""

    def __init__(
        self,
        facts: CommitFacts,
        context: RankContext,
        storage: Storage,
        clock: CommitClock,
        *,
        canary: CanaryModel | None,
        flush_journal: Callable[[], None],
    ) -> None:
        """``canary``: on rank 0 alone. ``flush_journal``: no commit without what led to it."""
        self._facts = facts
        self._storage = storage
        self._clock = clock
        self._canary = canary
        self._flush_journal = flush_journal
        self._group = dist.new_group(backend="gloo", timeout=SLOWEST_RANK)
        self._ranks = replace(context, control_group=self._group)
        self._unfinished: list[str] = []
        self._is_tidied = False

    def save(
        self,
        snapshot: Snapshot,
        position: Position,
        seconds: Mapping[str, float],
        longest_save_s: float,
    ) -> CommitOutcome:
        """Writes one commit.

        Args:
            snapshot: whose copy is complete.
            position: where training stood.
            seconds: the time ledger then.
            longest_save_s: of the last few commits of this attempt.
        """
        prefix = self._prefix(position)
        parts = self._ranks.gather(self._bring(snapshot, prefix))

        def conclude() -> CommitOutcome:
            commit = self._commit(parts, snapshot, position, seconds)
            return self._put(commit, parts, longest_save_s)

        return self._ranks.from_first(conclude)

    def close(self) -> None:
        """Gives the group back; when no thread is in ``save`` any more."""
        dist.destroy_process_group(self._group)

    def _prefix(self, position: Position) -> str:
        return commit_prefix(self._facts.request.run_name, position.step, self._facts.attempt)

    def _bring(self, snapshot: Snapshot, prefix: str) -> _Part:
        """This rank's part to the store; a problem is no error, for the others wait."""
        scratch_dir = self._facts.request.scratch_dir
        try:
            if self._ranks.is_first:
                self._make_room(prefix)
            Path(scratch_dir).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="commit-", dir=scratch_dir) as folder:
                return self._write(snapshot, prefix, Path(folder))
        except (OSError, PipelineError) as error:
            return _Part(problem=f"{error} (rank {self._ranks.rank})")

    def _write(self, snapshot: Snapshot, prefix: str, folder: Path) -> _Part:
        part = _Part()
        if snapshot.moments:
            place = f"{self._ranks.rank:05d}-of-{self._ranks.world_size:05d}"
            path = folder / f"{OPTIMIZER_STEM}{place}.safetensors"
            moments, starts = snapshot.moments, snapshot.starts
            part = _Part(tuple(write_optimizer(moments, starts, self._storage, prefix, path)))
        if self._canary is None:
            return part
        weights, sha256 = write_weights(snapshot.weights, self._storage, prefix, folder)
        loss = self._canary.loss_of(snapshot.weights)
        return replace(part, weights=tuple(weights), weights_sha256=sha256, canary_loss=loss)

    def _commit(
        self,
        parts: list[_Part],
        snapshot: Snapshot,
        position: Position,
        seconds: Mapping[str, float],
    ) -> Commit:
        request, first = self._facts.request, parts[0]
        optimizer = tuple(piece for part in parts for piece in part.optimizer)
        return Commit(
            run_name=request.run_name,
            step=position.step,
            attempt=self._facts.attempt,
            epoch=position.epoch,
            batch=position.batch,
            global_batch_clips=request.train.global_batch_clips,
            world_size=self._ranks.world_size,
            config_fingerprint=request.config_fingerprint,
            datasets=self._facts.datasets,
            model=request.model.model_dump(mode="json"),
            weights_sha256=first.weights_sha256,
            canary_loss=first.canary_loss,
            optimizer_steps=snapshot.optimizer_steps,
            has_optimizer=bool(optimizer),
            replaced_samples=position.replaced_samples,
            ledger=dict(seconds),
            weights=first.weights,
            optimizer=optimizer,
        )

    def _put(self, commit: Commit, parts: list[_Part], longest_save_s: float) -> CommitOutcome:
        """Makes the commit exist, if every part of it is there; on rank 0."""
        problem = "; ".join(part.problem for part in parts if part.problem)
        is_overtaken = False
        try:
            if not problem:
                self._flush_journal()
                require_newest(self._storage, commit.run_name, commit.attempt)
                longest_save_s = max(longest_save_s, self._clock.spent_s())
                put_commit(self._storage, replace(commit, save_s=longest_save_s))
        except Overtaken as error:
            problem, is_overtaken = str(error), True
        except (OSError, PipelineError) as error:
            problem = str(error)
        if problem:
            self._unfinished.append(commit.prefix)
            left_s = self._clock.fail()
            return CommitOutcome(commit.step, None, 0.0, problem, left_s, is_overtaken)
        self._clock.succeed()
        self._tidy(commit)
        log.info("Committed step %d: %s", commit.step, self._storage.uri(commit.prefix))
        return CommitOutcome(commit.step, commit.prefix, self._clock.spent_s())

    def _tidy(self, commit: Commit) -> None:
        """What may fail once the commit exists."""
        train = self._facts.request.train
        try:
            put_hint(self._storage, commit)
            drop_old_optimizer_states(
                self._storage, commit, train.keep_last, train.keep_every_steps
            )
        except (OSError, PipelineError) as error:
            log.warning("Old optimizer state stays until the next commit: %s", error)

    def _make_room(self, prefix: str) -> None:
        """Removes files of earlier tries: nobody sees them, but they may be what fills the disk."""
        if not self._is_tidied:
            remove_leftovers(self._storage, self._facts.request.run_name, self._facts.attempt)
            self._is_tidied = True
        for earlier in self._unfinished:
            if earlier == prefix or self._storage.exists(f"{earlier}/{COMMIT_FILE}"):
                continue
            for key in self._storage.list(earlier):
                self._storage.delete(key)
        self._unfinished = [earlier for earlier in self._unfinished if earlier == prefix]
