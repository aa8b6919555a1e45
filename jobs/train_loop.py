"""The steps of one attempt at a run, from the newest commit to the end or to a stop."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage, write_json_if_absent
from sigma_pipeline.jobs.bad_steps import BadSteps
from sigma_pipeline.jobs.checkpoints import has_finite_state
from sigma_pipeline.jobs.commit_save import CommitFacts, Position
from sigma_pipeline.jobs.commit_schedule import CommitSchedule
from sigma_pipeline.jobs.commits import manifest_key
from sigma_pipeline.jobs.control import Agreement
from sigma_pipeline.jobs.device_peak import peak_flops
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.optimizer import learning_rate
from sigma_pipeline.jobs.preflight import naming_rank, require_readable
from sigma_pipeline.jobs.skipped_steps import read_skipped
from sigma_pipeline.jobs.stop_wish import StopWish, TimeLimit, shared_reason, stop_lead_s
from sigma_pipeline.jobs.time_history import time_before
from sigma_pipeline.jobs.time_ledger import TimeLedger
from sigma_pipeline.jobs.train_commit import CommitWriter
from sigma_pipeline.jobs.train_pause import TrainingPause
from sigma_pipeline.jobs.train_record import TrainRecord, Workload
from sigma_pipeline.jobs.train_replaced import ReplacedSamples
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_result import TrainResult
from sigma_pipeline.jobs.train_start import prepare_start
from sigma_pipeline.jobs.train_step import TrainStep
from sigma_pipeline.jobs.watchdog import Watchdog

log = logging.getLogger(__name__)

_RECENT_STEPS = 20
_HEARING_WAIT_S = 150.0
"""After the end, for what is done about each commit; a stop waits for nothing of the kind."""
_PHASES = {
    "start_s": "start",
    "restart_s": "start",
    "commit_wait_s": "commit",
    "data_wait_s": "data",
    "productive_s": "step",
}


class Training:
    """One attempt at a run, on one rank, set up as the newest commit left it."""

    def __init__(
        self,
        request: TrainRequest,
        context: RankContext,
        storage: Storage,
        *,
        attempt: str,
        ledger: TimeLedger,
        journal: Journal | None,
        watchdog: Watchdog,
        pause: TrainingPause,
        on_commit: Callable[[int], None] | None = None,
    ) -> None:
        """``pause``: has begun; ``on_commit``: see ``CommitWriter``."""
        self._request = request
        self._context = context
        self._storage = storage
        self._attempt = attempt
        self._ledger = ledger
        self._watchdog = watchdog
        self._pause = pause
        self._step = 0
        with self._doing("restart_s" if ledger.has_history else "start_s"):
            start = prepare_start(request, context, storage, watchdog.note_outage)
        self._begin_ledger(start.commit.ledger if start.commit else {})
        self._start = start
        self._step = start.commit.step if start.commit else 0
        self._total_steps = request.train.epochs * start.batches_per_epoch
        self._steps_s: deque[float] = deque([0.0], maxlen=_RECENT_STEPS)
        self._hearing_wait_s = 0.0
        self._commits = self._begin_commits(journal, on_commit)
        self._schedule = CommitSchedule(self._commits, request.train.commit_every_steps)
        self._take_step = self._step_taker()
        self._record = TrainRecord(context, journal, ledger, self._take_step.pace, self._workload())
        self._replaced = self._begin_account(journal)
        self._bad_steps = BadSteps(
            request, context, storage, start.engine, attempt=attempt, pool=start.pool
        )
        self._skipped = context.from_first(lambda: read_skipped(storage, request.run_name))

    @contextmanager
    def _doing(self, purpose: str) -> Iterator[None]:
        """What the time inside is spent on, and what the watchdog sees."""
        self._watchdog.at(_PHASES[purpose], self._step)
        with self._ledger.spent_on(purpose):
            yield

    def _begin_ledger(self, committed: Mapping[str, float]) -> None:
        """Adds what was spent before this attempt, or takes back what was done after a commit."""
        if self._ledger.has_history:
            self._ledger.fall_back(committed)
            return
        run_name, began_ms = self._request.run_name, self._ledger.began_ms
        before = self._context.from_first(
            lambda: time_before(self._storage, run_name, self._attempt, began_ms, committed)
        )
        self._ledger.begin(before)

    def _workload(self) -> Workload:
        return Workload(
            self._total_steps,
            self._request.train.global_batch_clips,
            self._start.objective.flops_per_clip,
            peak_flops(self._context.device),
        )

    def _begin_commits(
        self, journal: Journal | None, on_commit: Callable[[int], None] | None
    ) -> CommitWriter:
        start = self._start
        return CommitWriter(
            CommitFacts(request=self._request, attempt=self._attempt, datasets=start.datasets),
            self._context,
            start.engine,
            self._storage,
            objective=start.objective,
            canary=start.canary,
            resumed=start.commit,
            flush_journal=journal.flush if journal is not None else lambda: None,
            on_wait=lambda: self._watchdog.at("commit", self._step),
            on_commit=on_commit,
        )

    def _step_taker(self) -> TrainStep:
        return TrainStep(
            self._start.engine,
            self._context,
            self._start.objective,
            before_update=self._before_update,
        )

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

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return self._step

    def run(self, wish: StopWish, limit: TimeLimit) -> TrainResult:
        """Steps to the end or to a stop, with a commit there; see ``run_train``."""
        self._record.announce(
            self._attempt, self._request, self._start.datasets, self._storage, step=self._step
        )
        if self._commits.newest_step < 0:  # the untrained model is evaluated like any other
            with self._doing("commit_wait_s"):
                self._commits.begin(self._position(), self._ledger.seconds)
                self._commits.settle()
            self._read_back()
        is_stopped = self._take_steps(wish, limit)
        with self._doing("commit_wait_s"):
            if is_stopped and not self._is_fit():
                self._commits.settle()
            else:
                self._commits.finish(
                    self._position(), self._ledger.seconds, may_retry=not is_stopped
                )
        reason = ""
        if is_stopped:
            reason = shared_reason(self._context.all_gather(wish.reason))
            log.info("Stopped after step %d: %s", self._step, reason)
        else:
            self._hearing_wait_s = _HEARING_WAIT_S
            self._context.from_first(self._write_manifest)
            log.info("Finished after step %d: %s", self._step, self._commits.newest_prefix)
        self._pause.end()
        return TrainResult(
            state="stopped" if is_stopped else "finished",
            run_name=self._request.run_name,
            step=max(self._commits.newest_step, 0),
            commit=self._commits.newest_prefix,
            reason=reason,
        )

    def _take_steps(self, wish: StopWish, limit: TimeLimit) -> bool:
        """Steps until the last one, or until all ranks agree to stop; whether they do."""
        agreement = Agreement(self._context.control_group)
        pauses = False
        try:
            while self._step < self._total_steps:
                if limit.is_near(stop_lead_s(self._commits.longest_save_s, max(self._steps_s))):
                    wish.wish("the time limit of the job comes near")
                is_stopping, is_pausing, *told = agreement.exchange(
                    [wish.is_wished(), self._pause.is_due(), *self._schedule.flags()]
                )
                self._schedule.hear(told)
                # What is heard after a pause was said before it, as it is heard one call late.
                pauses = bool(is_pausing) and not pauses
                if is_stopping or (pauses and self._pause.wait(wish, self._step)):
                    return True
                self._take_one_step()
                self._commit_if_due()
        finally:
            agreement.close()
        return False

    def _take_one_step(self) -> None:
        train = self._request.train
        with self._doing("data_wait_s"), naming_rank(self._context):
            batches = next(self._start.batches)
        if self._step + 1 in self._skipped:
            self._step += 1
            log.info("The batch of step %d is left out", self._step)
            return
        rate = learning_rate(
            self._step,
            train.optimizer,
            self._start.batches_per_epoch,
            train.epochs,
            train.global_batch_clips,
        )
        began_s = time.monotonic()
        with self._doing("productive_s"):
            outcome = self._take_step(batches, rate)
        self._steps_s.append(time.monotonic() - began_s)
        self._step += 1
        self._record.count()
        self._replaced.note(batches)
        if self._step % train.log_every_steps == 0 or self._step == self._total_steps:
            counts = {
                "replaced_samples": self._replaced.settle(),
                "skipped_batches": sum(step <= self._step for step in self._skipped),
            }
            self._record.write(self._step, outcome, rate, counts)
            self._replaced.require_few(self._step)
        if not outcome.is_applied:
            with self._doing("commit_wait_s"):
                self._commits.settle()  # so that all know where the run could go back to
        self._bad_steps.look(self._step, batches, outcome)

    def _commit_if_due(self) -> None:
        """Begins a commit; the steps that follow wait for no more than for its copy."""
        with self._doing("commit_wait_s"):
            if self._schedule.begins_after(self._step, is_good=not self._bad_steps.in_a_row):
                self._commits.begin(self._position(), self._ledger.seconds)

    def _is_fit(self) -> bool:
        """Whether the weights can be gone on from: bad steps may come of them. A collective."""
        is_fit = not self._bad_steps.in_a_row or has_finite_state(self._start.engine)
        return all(self._context.all_gather(is_fit))

    def _read_back(self) -> None:
        """Tries whether the commit that is there could be resumed."""
        prefix = self._commits.newest_prefix
        if self._request.preflight and prefix is not None:
            self._context.from_first(lambda: require_readable(self._storage, prefix))

    def _before_update(self) -> None:
        with self._ledger.spent_on("commit_wait_s"):
            self._commits.before_update()

    def _position(self) -> Position:
        replaced = self._replaced.settle()
        self._replaced.require_few(self._step)
        return Position(self._step, self._start.batches_per_epoch, replaced)

    def close(self) -> None:
        """Ends what still goes on in the background."""
        self._commits.close(self._hearing_wait_s)

    def _write_manifest(self) -> None:
        manifest = {
            "run_name": self._request.run_name,
            "fingerprint": self._request.config_fingerprint,
            "step": self._step,
            "commit": self._commits.newest_prefix,
            "attempt": self._attempt,
            "datasets": self._start.datasets,
            "replaced_samples": self._replaced.total,
            "ledger": self._ledger.seconds,
        }
        write_json_if_absent(self._storage, manifest_key(self._request.run_name), manifest)
