"""Training waits while its commits are evaluated on the same GPU; see ``gpu_sharing``."""

import logging
import time

import torch

from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.gpu_sharing import TrainingTurns
from sigma_pipeline.jobs.stop_wish import StopWish
from sigma_pipeline.jobs.time_ledger import TimeLedger
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.watchdog import Watchdog

log = logging.getLogger(__name__)

_POLL_S = 0.1


class TrainingPause:
    """The pauses of one rank. Rank 0 asks whether there is to be one; all make it together."""

    def __init__(
        self,
        request: TrainRequest,
        context: RankContext,
        ledger: TimeLedger,
        watchdog: Watchdog,
    ) -> None:
        self._context = context
        self._ledger = ledger
        self._watchdog = watchdog
        share = request.gpu_share
        self._takes_turns = share is not None and share.rule == "pause"
        self._turns: TrainingTurns | None = None
        if context.is_first and self._takes_turns:
            self._turns = TrainingTurns(request.scratch_dir, request.run_name)

    def begin(self, wish: StopWish, step: int) -> bool:
        """Waits for the turn, which must be had before the GPU is used. A collective.

        Args:
            wish: of this rank, to stop.
            step: that is to come.

        Returns:
            Whether any rank wants to stop.
        """
        if not self._takes_turns or not any(self._context.all_gather(self.is_due())):
            return False
        is_stopping = self.wait(wish, step)
        self._watchdog.at("start", step)
        return is_stopping

    def is_due(self) -> bool:
        """Whether this rank asks for a pause, to be told to the others."""
        return self._turns is not None and not self._turns.take()

    def wait(self, wish: StopWish, step: int) -> bool:
        """Waits until no evaluation wants the GPU. A collective: all ranks have agreed on it.

        Args:
            wish: of this rank, to stop.
            step: that is to come.

        Returns:
            Whether any rank wants to stop.
        """
        with self._ledger.spent_on("paused_s"):
            return self._wait(wish, step)

    def _wait(self, wish: StopWish, step: int) -> bool:
        log.info("Training waits while a commit is evaluated on its GPU")
        began_s = time.monotonic()
        self._free_gpu()
        self._context.all_gather(None)  # the step is over on every rank
        if self._turns is not None:
            self._turns.give()
        while True:
            self._watchdog.at("paused", step)
            told = self._context.all_gather(
                (self._turns is not None and self._turns.take(), wish.is_wished())
            )
            may_go_on, is_stopping = map(any, zip(*told, strict=True))
            if may_go_on or is_stopping:
                break
            time.sleep(_POLL_S)
        log.info("Training goes on after %.1f s", time.monotonic() - began_s)
        return is_stopping

    def end(self) -> None:
        """Leaves the GPU to others."""
        if self._turns is not None:
            self._turns.give()

    def close(self) -> None:
        """The same, for good."""
        if self._turns is not None:
            self._turns.close()

    def _free_gpu(self) -> None:
        """Ends what the GPU still does, and gives back what is only kept for later steps."""
        if self._context.device.type == "cuda":
            torch.cuda.synchronize(self._context.device)
            torch.cuda.empty_cache()
