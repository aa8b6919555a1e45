"""The training job: resume from the newest commit, take steps, commit, stop when asked to.

The same code runs as one process, as several on one machine, and on several nodes. Everything that
decides a step (batch, masks, assignments, learning rate) follows from the request and the number of
the step, so that a run that was stopped goes on as if it had not been.
"""

import logging
import math
import os
import socket
from contextlib import ExitStack
from pathlib import Path

from sigma_pipeline.infra.errors import Interrupted, StageError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.logs import configure_logging
from sigma_pipeline.infra.storage import Storage, open_storage, read_json, write_json_if_absent
from sigma_pipeline.jobs.attempts import register_attempt
from sigma_pipeline.jobs.commits import train_folder
from sigma_pipeline.jobs.control import Agreement, StopWish, parent_process, stop_on_signals
from sigma_pipeline.jobs.distributed import RankContext, init_ranks
from sigma_pipeline.jobs.optimizer import learning_rate
from sigma_pipeline.jobs.train_commit import CommitWriter, Position
from sigma_pipeline.jobs.train_record import TimeLedger, TrainRecord
from sigma_pipeline.jobs.train_replaced import ReplacedSamples
from sigma_pipeline.jobs.train_request import RankPlace, TrainRequest
from sigma_pipeline.jobs.train_result import TrainResult, stopped_before_start
from sigma_pipeline.jobs.train_start import prepare_start
from sigma_pipeline.jobs.train_step import StepOutcome, TrainStep

log = logging.getLogger(__name__)

MAX_BAD_STEPS = 3
"""Steps in a row that could not be applied before the run is given up."""


def run_train(request: TrainRequest, place: RankPlace | None = None) -> TrainResult:
    """Trains from the newest commit to the end, or to a stop; every rank calls it.

    Args:
        request: what to train; the same one resumes.
        place: this process among the others; alone when absent.

    Raises:
        ConfigError: batch, ranks and micro-batches do not fit, or the run has other settings.
        MissingInputError: the dataset is not there.
        StageError: numbers that are not finite, a damaged commit, or a newer attempt.
    """
    place = place or RankPlace()
    configure_logging(rank=place.rank)
    wish = StopWish((request.launcher, parent_process()) if request.launcher else ())
    with ExitStack() as stack:
        stack.enter_context(stop_on_signals(wish))
        try:
            ranks = init_ranks(place, request.cpus_per_process, wish.is_wished)
            context = stack.enter_context(ranks)
        except Interrupted as stop:
            return stopped_before_start(request, str(stop))
        return _train(request, context, wish)


def _train(request: TrainRequest, context: RankContext, wish: StopWish) -> TrainResult:
    storage = open_storage(request.root_uri)
    done = context.from_first(lambda: _finished(storage, request.run_name))
    if done is not None:
        return done
    attempt = context.from_first(lambda: _register(storage, request, context))
    log_name = f"{attempt}-rank{context.rank}.jsonl"
    log_path = Path(request.work_dir, "logs", request.run_name, log_name)
    configure_logging(rank=context.rank, json_path=log_path)
    with ExitStack() as stack:
        journal = None
        if context.is_first:
            journal = Journal(storage, request.run_name, attempt, "train")
            stack.callback(journal.close)
        training = Training(request, context, storage, attempt=attempt, journal=journal)
        return training.run(wish)


def manifest_key(run_name: str) -> str:
    """The object whose presence says that training is done."""
    return f"{train_folder(run_name)}/manifest.json"


class Training:
    """One attempt at a run, on one rank, set up as the newest commit left it."""

    def __init__(
        self,
        request: TrainRequest,
        context: RankContext,
        storage: Storage,
        *,
        attempt: str,
        journal: Journal | None,
    ) -> None:
        self._request = request
        self._context = context
        self._storage = storage
        self._attempt = attempt
        self._ledger = TimeLedger()
        with self._ledger.spent_on("start_s"):
            start = prepare_start(request, context, storage)
        if start.commit is not None:
            self._ledger.add(start.commit.ledger)
        self._start = start
        self._step = start.commit.step if start.commit else 0
        self._committed = start.commit.prefix if start.commit else None
        self._bad_steps = 0
        self._take_step = TrainStep(start.engine, context, model=request.model, seed=request.seed)
        self._record = TrainRecord(
            context,
            journal,
            self._ledger,
            total_steps=self._total_steps,
            global_batch_clips=request.train.global_batch_clips,
        )
        self._replaced = self._begin_account(journal)
        self._commits = CommitWriter(
            request,
            context,
            start.engine,
            storage=storage,
            attempt=attempt,
            datasets=start.datasets,
            canary=start.canary,
        )

    @property
    def _total_steps(self) -> int:
        return self._request.train.epochs * self._start.batches_per_epoch

    def _begin_account(self, journal: Journal | None) -> ReplacedSamples:
        commit = self._start.commit
        return ReplacedSamples(
            self._request,
            self._context,
            self._storage,
            attempt=self._attempt,
            journal=journal,
            total=commit.replaced_samples if commit else 0,
        )

    def run(self, wish: StopWish) -> TrainResult:
        """Steps to the end or to a stop, with a commit there; see ``run_train``."""
        self._announce()
        if self._committed is None:
            self._commit()  # the untrained model is evaluated like any other
        is_stopped = self._take_steps(wish)
        if self._committed is None:
            self._commit()
        reason = ""
        if is_stopped:
            reasons = {reason for reason in self._context.all_gather(wish.reason) if reason}
            reason = "; ".join(sorted(reasons))
            log.info("Stopped after step %d: %s", self._step, reason)
        else:
            self._context.from_first(self._write_manifest)
            log.info("Finished after step %d: %s", self._step, self._committed)
        return TrainResult(
            state="stopped" if is_stopped else "finished",
            run_name=self._request.run_name,
            step=self._step,
            commit=self._committed,
            reason=reason,
        )

    def _take_steps(self, wish: StopWish) -> bool:
        """Steps until the last one, or until all ranks agree to stop; whether they do."""
        agreement = Agreement(self._context.control_group)
        try:
            while self._step < self._total_steps:
                if agreement.exchange(wish.is_wished()):
                    return True
                self._take_one_step()
                if self._step % self._request.train.commit_every_steps == 0:
                    self._commit()
        finally:
            agreement.close()
        return False

    def _take_one_step(self) -> None:
        train = self._request.train
        with self._ledger.spent_on("data_wait_s"):
            batches = next(self._start.batches)
        rate = learning_rate(
            self._step,
            train.optimizer,
            self._start.batches_per_epoch,
            train.epochs,
            train.global_batch_clips,
        )
        with self._ledger.spent_on("step_s"):
            outcome = self._take_step(batches, rate)
        self._step += 1
        self._committed = None
        self._record.count()
        self._replaced.note(batches)
        if self._step % train.log_every_steps == 0 or self._step == self._total_steps:
            self._record.write(self._step, outcome, rate, self._replaced.settle())
            self._replaced.require_few(self._step)
        self._require_progress(outcome)

    def _require_progress(self, outcome: StepOutcome) -> None:
        """Gives up when too many steps in a row could not be applied; on every rank at once."""
        if outcome.is_applied:
            self._bad_steps = 0
            return
        self._bad_steps += 1
        losses = self._context.all_gather(float(outcome.numbers["loss"]))
        ranks = [str(rank) for rank, loss in enumerate(losses) if not math.isfinite(loss)]
        what = f"the loss on rank {', '.join(ranks)}" if ranks else "a gradient"
        message = f"step {self._step}: {what} was not finite, so the update was not applied"
        if self._bad_steps < MAX_BAD_STEPS:
            log.warning("%s (%d in a row)", message, self._bad_steps)
            return
        raise StageError(
            f"{message}, {self._bad_steps} times in a row; lower train.optimizer.base_lr or set "
            "train.optimizer.gradient_clip_norm in a new run. The commits so far are intact"
        )

    def _commit(self) -> None:
        """The journal first: no commit without the numbers that led to it."""
        with self._ledger.spent_on("commit_s"):
            replaced = self._replaced.settle()
            self._replaced.require_few(self._step)
            self._record.flush()
            position = Position(self._step, self._start.batches_per_epoch, replaced)
            self._committed = self._commits.write(position, self._ledger.seconds)

    def _write_manifest(self) -> None:
        manifest = {
            "run_name": self._request.run_name,
            "fingerprint": self._request.config_fingerprint,
            "step": self._step,
            "commit": self._committed,
            "attempt": self._attempt,
            "datasets": self._start.datasets,
            "replaced_samples": self._replaced.total,
            "ledger": self._ledger.seconds,
        }
        write_json_if_absent(self._storage, manifest_key(self._request.run_name), manifest)

    def _announce(self) -> None:
        """Facts of this attempt, to the log and to the journal."""
        request = self._request
        log.info(
            "Training run %s, attempt %s: %s, steps %d to %d, %d clips a step on %d process(es), "
            "settings %s",
            request.run_name,
            self._attempt,
            ", ".join(ref.prefix for ref in request.datasets),
            self._step,
            self._total_steps,
            request.train.global_batch_clips,
            self._context.world_size,
            request.config_fingerprint,
        )
        uris = [self._storage.uri(ref.prefix) for ref in request.datasets]
        self._record.announce(self._attempt, self._start.datasets, uris)


def _finished(storage: Storage, run_name: str) -> TrainResult | None:
    """The result of a training that is done already."""
    try:
        manifest = read_json(storage, manifest_key(run_name))
    except FileNotFoundError:
        return None
    return TrainResult(
        state="finished",
        run_name=run_name,
        step=manifest["step"],
        commit=manifest["commit"],
        reason="",
    )


def _register(storage: Storage, request: TrainRequest, context: RankContext) -> str:
    facts = {
        "host": socket.gethostname(),
        "pid": str(os.getpid()),
        "world_size": str(context.world_size),
        "config_fingerprint": request.config_fingerprint,
    }
    return register_attempt(storage, request.run_name, facts)
