"""Steps whose loss or gradient is not finite: named, kept for replay, and borne only so long.

Such a step is never applied. What went into it is kept under
``runs/<run>/train/bad-steps/step-00000123/<attempt>/``: of each rank concerned its clips
(``rank-00003.safetensors``) and where they come from (``rank-00003.json``), the weights of then
(``model.safetensors``), and ``bad.json``, put last, which names all that. See ``replay``.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.infra.errors import PipelineError, StageError
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.commits import train_folder
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.masters import whole_weights
from sigma_pipeline.jobs.skipped_steps import mark_skipped
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_step import StepOutcome
from sigma_pipeline.model.weights import save_weights

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine

log = logging.getLogger(__name__)

MAX_DUMPS = 5
"""Steps that one attempt keeps: a run that goes wrong for good must not fill the store."""
BAD_FILE = "bad.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT_VERSION = 1
_KEYS_NAMED = 20


class RollBackError(StageError):
    """The run is to go on from its newest commit; the batches of the bad steps are marked."""


@dataclass(frozen=True)
class Share:
    """What one rank had of a bad step."""

    rank: int
    host: str
    losses: tuple[float, ...]
    """Of its micro-batches."""
    keys: tuple[str, ...]
    """Of its samples, clip by clip."""

    @property
    def is_finite(self) -> bool:
        """Whether its losses are."""
        return all(map(math.isfinite, self.losses))


class BadSteps:
    """Looks after the steps of one attempt; every rank has one and shows it the same steps."""

    def __init__(
        self,
        request: TrainRequest,
        context: RankContext,
        storage: Storage,
        engine: "DeepSpeedEngine",
        *,
        attempt: str,
        pool: Pool,
    ) -> None:
        """``pool``: what samples are numbered by."""
        self.in_a_row: list[int] = []
        """Numbers of the steps since the last one that was applied."""
        self._request = request
        self._context = context
        self._storage = storage
        self._engine = engine
        self._attempt = attempt
        self._pool = pool
        self._num_dumps = 0
        self._weights_key: str | None = None
        self._are_weights_old = False

    def look(self, step: int, batches: Sequence[Batch], outcome: StepOutcome) -> None:
        """Takes note of a step, numbered from 1; a collective when it was not applied.

        Raises:
            StageError: ``train.max_bad_steps`` in a row, on every rank.
            RollBackError: the same, and the run is to go back to its newest commit.
        """
        if outcome.is_applied:
            self.in_a_row.clear()
            self._are_weights_old = True
            return
        self.in_a_row.append(step)
        shares = self._context.all_gather(self._share(batches, outcome))
        message = describe_bad_step(step, shares)
        if self._num_dumps < MAX_DUMPS and self._request.learning is None:
            self._num_dumps += 1
            self._dump(step, batches, shares)
            message += f". Try its clips again with: sigma-pipeline checkpoints replay {step}"
        if len(self.in_a_row) < self._request.train.max_bad_steps:
            if self._context.is_first:
                log.warning("%s (%d in a row)", message, len(self.in_a_row))
            return
        self._give_up(f"{message}. This was so {len(self.in_a_row)} times in a row")

    def _give_up(self, message: str) -> None:
        if self._request.train.after_bad_steps == "roll_back":
            run_name, steps = self._request.run_name, self.in_a_row
            self._context.from_first(
                lambda: mark_skipped(self._storage, run_name, self._attempt, steps, message)
            )
            raise RollBackError(
                f"{message}; the run goes on from its newest commit without these batches"
            )
        if self._request.learning is not None:
            raise StageError(f"{message}. Lower base_lr in the settings of this cell")
        raise StageError(
            f"{message}. The commits so far are intact. Lower train.optimizer.base_lr or set "
            "train.optimizer.gradient_clip_norm in a new run, or leave these batches out: run the "
            "same command with --set train.after_bad_steps=roll_back"
        )

    def _share(self, batches: Sequence[Batch], outcome: StepOutcome) -> Share:
        losses = tuple(float(loss) for loss in outcome.losses)
        keys = tuple(
            index.rows[row].key
            for batch in batches
            for index, row in map(self._pool.locate, batch.samples.tolist())
        )
        return Share(self._context.rank, self._context.hosts[self._context.rank], losses, keys)

    def _dump(self, step: int, batches: Sequence[Batch], shares: Sequence[Share]) -> None:
        """Keeps what went into the step. Failing at it is no reason to end a training."""
        prefix = f"{bad_steps_folder(self._request.run_name, step)}/{self._attempt}"
        bad = [share.rank for share in shares if not share.is_finite]
        dumped = bad or [0]
        weights = None
        if self._weights_key is None:
            weights = self._gathered_weights()
            self._weights_key = f"{prefix}/{WEIGHTS_FILE}"
            self._are_weights_old = False
        try:
            if self._context.rank in dumped:
                self._put_clips(prefix, step, batches, shares[self._context.rank])
            if not self._context.is_first:
                return
            if weights is not None:
                self._storage.write(f"{prefix}/{WEIGHTS_FILE}", save_weights(weights))
            write_json(self._storage, f"{prefix}/{BAD_FILE}", self._facts(step, bad, dumped))
        except (PipelineError, OSError) as error:
            log.warning("The batch of step %d could not be kept for replay: %s", step, error)

    def _gathered_weights(self) -> dict[str, Tensor]:
        """On rank 0; the others help to put them together."""
        is_kept = self._context.is_first
        return {name: weight.cpu() for name, weight in whole_weights(self._engine) if is_kept}

    def _put_clips(self, prefix: str, step: int, batches: Sequence[Batch], share: Share) -> None:
        stem = f"{prefix}/{rank_file(share.rank)}"
        clips = {
            "clip": torch.cat([batch.clip for batch in batches]),
            "positions": torch.cat([batch.positions for batch in batches]),
            "samples": torch.cat([batch.samples for batch in batches]),
        }
        self._storage.write(f"{stem}.safetensors", save_weights(clips))
        facts = {
            "step": step,
            "rank": share.rank,
            "host": share.host,
            "epoch": batches[0].epoch,
            "micro_batches": [len(batch.clip) for batch in batches],
            "losses": [str(loss) for loss in share.losses],  # JSON has no words for NaN
            "keys": share.keys,
        }
        write_json(self._storage, f"{stem}.json", facts)

    def _facts(self, step: int, bad: Sequence[int], dumped: Sequence[int]) -> Mapping[str, Any]:
        return {
            "format": FORMAT_VERSION,
            "step": step,
            "attempt": self._attempt,
            "world_size": self._context.world_size,
            "ranks_with_bad_loss": list(bad),
            "ranks": list(dumped),
            "weights": None if self._are_weights_old else self._weights_key,
            "model": self._request.model.model_dump(mode="json"),
            "precision": self._request.train.precision,
            "seed": self._request.seed,
            "time_ms": time.time_ns() // 1_000_000,
        }


def bad_steps_folder(run_name: str, step: int) -> str:
    """Key of the folder of what was kept of a step, by whichever attempt."""
    return f"{train_folder(run_name)}/bad-steps/step-{step:08d}"


def rank_file(rank: int) -> str:
    """Of a rank's files the name without its suffix."""
    return f"rank-{rank:05d}"


def describe_bad_step(step: int, shares: Sequence[Share]) -> str:
    """Which ranks, hosts and samples; of all ranks where no loss says whose it was."""
    bad = [share for share in shares if not share.is_finite]
    ranks = ", ".join(f"{share.rank} (host {share.host})" for share in bad)
    what = f"the loss on rank {ranks}" if bad else "a gradient (and no rank's loss)"
    keys = list(dict.fromkeys(key for share in bad or shares for key in share.keys))
    named = ", ".join(keys[:_KEYS_NAMED])
    more = f" and {len(keys) - _KEYS_NAMED} more" if len(keys) > _KEYS_NAMED else ""
    return (
        f"step {step}: {what} was not finite, so the update was not applied. "
        f"The samples: {named}{more}"
    )
