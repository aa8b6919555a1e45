"""The training job: resume from the newest commit, take steps, commit, stop when asked to.

The same code runs as one process, as several on one machine, and on several nodes. Everything that
decides a step (batch, masks, assignments, learning rate) follows from the request and the number of
the step, so that a run that was stopped goes on as if it had not been.
"""

import gc
import logging
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import torch

from sigma_pipeline.infra.errors import BadNodes, Interrupted, PipelineError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.logs import configure_logging
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.bad_steps import RollBackError
from sigma_pipeline.jobs.distributed import RankContext, collectives_trace, init_ranks
from sigma_pipeline.jobs.gpu_sharing import cap_memory
from sigma_pipeline.jobs.preflight import check_nodes
from sigma_pipeline.jobs.rendezvous import MEETING_LIMIT_S
from sigma_pipeline.jobs.stop_wish import StopWish, TimeLimit, shared_reason, stop_on_signals
from sigma_pipeline.jobs.time_ledger import TimeLedger
from sigma_pipeline.jobs.train_attempt import (
    RecordedEnd,
    begin_attempt,
    ended_before,
    note_cancelled,
    record_refusal,
    slurm_job_id,
    slurm_restart,
    try_to_note,
)
from sigma_pipeline.jobs.train_loop import Training
from sigma_pipeline.jobs.train_pause import TrainingPause
from sigma_pipeline.jobs.train_request import RankPlace, TrainRequest
from sigma_pipeline.jobs.train_result import TrainResult, stopped_before_start
from sigma_pipeline.jobs.watchdog import Watchdog, ended_after

log = logging.getLogger(__name__)


def run_train(
    request: TrainRequest,
    place: RankPlace | None = None,
    wish: StopWish | None = None,
    on_commit: Callable[[int], None] | None = None,
) -> TrainResult:
    """Trains from the newest commit to the end, or to a stop; every rank calls it.

    Args:
        request: what to train; the same one resumes.
        place: this process among the others; alone when absent.
        wish: what signals have been turned into already, for this module takes seconds to import;
            when absent, they are from here on.
        on_commit: called on rank 0, in another thread, with each step that is committed.

    Raises:
        ConfigError: batch, ranks and micro-batches do not fit, or the run has other settings.
        MissingInputError: the dataset is not there.
        BadNodes: some processes did not come up, or nodes do not work.
        StageError: numbers that are not finite, a damaged commit, a newer attempt, or the run was
            given up.
    """
    place, ledger = place or RankPlace(), TimeLedger()
    configure_logging(rank=place.rank)
    with ExitStack() as stack:
        if wish is None:
            wish = StopWish.of_job(request.launcher)
            stack.enter_context(stop_on_signals(wish))
        stack.enter_context(
            ended_after(MEETING_LIMIT_S + request.stall_timeout_s, is_alone=place.world_size == 1)
        )
        ranks = init_ranks(
            place,
            request.cpus_per_process,
            wish.is_wished,
            stall_timeout_s=request.stall_timeout_s,
            outage_s=60 * request.train.commit_grace_min,
            log_dir=_log_dir(request),
        )
        try:
            context = stack.enter_context(ranks)
        except Interrupted as stop:
            return stopped_before_start(request, str(stop))
        except BadNodes as error:
            if place.rank == error.reported_by:
                record_refusal(request, place, error)
            raise
        return _train(request, context, wish, on_commit, ledger)


def _log_dir(request: TrainRequest) -> Path:
    return Path(request.work_dir, "logs", request.run_name)


def _train(
    request: TrainRequest,
    context: RankContext,
    wish: StopWish,
    on_commit: Callable[[int], None] | None,
    ledger: TimeLedger,
) -> TrainResult:
    storage, run_name = open_storage(request.root_uri), request.run_name
    done = context.from_first(lambda: ended_before(storage, request))
    if done is not None:
        return done
    end = _begin(request, context, storage, ledger)
    log_path = _set_up_process(request, context, end.attempt)
    with end, ExitStack() as stack:
        on_cancel = partial(note_cancelled, storage, run_name)
        limit = _time_limit(context, wish, end, on_cancel)
        stack.callback(limit.close)
        tell = partial(_record_stall, end, log_path)
        watchdog = stack.enter_context(
            Watchdog(context, request.stall_timeout_s, tell, subject=end.attempt)
        )
        pause = stack.enter_context(closing(TrainingPause(request, context, ledger, watchdog)))
        if pause.begin(wish, end.step):
            told = context.all_gather(wish.reason)
            end.result = stopped_before_start(request, shared_reason(told))
            return end.result
        if request.preflight:
            check_nodes(context, storage, request, end.attempt)
        journal = None
        if context.is_first:
            journal = Journal(storage, run_name, end.attempt, "train")
            stack.callback(_close_journal, journal)
        begin = partial(
            Training,
            request,
            context,
            storage,
            attempt=end.attempt,
            ledger=ledger,
            journal=journal,
            on_commit=on_commit,
            watchdog=watchdog,
            pause=pause,
        )
        while (result := _train_on(begin, end, wish, limit)) is None:
            _free_engine(context)
        end.result = result
        return result


def _set_up_process(request: TrainRequest, context: RankContext, attempt: str) -> Path:
    """Logs to a file of this rank, whose path is returned, and keeps to its share of the GPU."""
    log_path = _log_dir(request) / f"{attempt}-rank{context.rank}.jsonl"
    configure_logging(rank=context.rank, json_path=log_path)
    if request.gpu_share is not None and request.gpu_share.rule == "memory_cap":
        cap_memory(request.gpu_share.memory_share)
    return log_path


def _begin(
    request: TrainRequest, context: RankContext, storage: Storage, ledger: TimeLedger
) -> RecordedEnd:
    """Registers an attempt, before anybody may find out that its job is cancelled."""
    attempt, step = context.from_first(
        lambda: begin_attempt(storage, request, context.hosts, ledger.began_ms)
    )
    if context.is_first:
        try_to_note(storage, request.run_name, "RUNNING")
    return RecordedEnd(storage, request.run_name, attempt, rank=context.rank, step=step)


def _time_limit(
    context: RankContext, wish: StopWish, end: RecordedEnd, on_cancel: Callable[[], object]
) -> TimeLimit:
    """Followed by rank 0 alone."""
    return TimeLimit(
        slurm_job_id() if context.is_first else None,
        wish,
        restart=slurm_restart(),
        on_cancel=on_cancel,
        on_taken=end.note_taken,
        on_limit=end.keep_death_at_limit,
    )


def _close_journal(journal: Journal) -> None:
    """A store that is away ends training with a sentence of its own, which must not be lost."""
    try:
        journal.close()
    except (PipelineError, OSError) as error:
        log.warning("The last lines of the journal are not written: %s", error)


def _free_engine(context: RankContext) -> None:
    gc.collect()  # an engine refers to itself, and holds the memory of the GPU
    if context.device.type == "cuda":
        torch.cuda.empty_cache()


def _train_on(
    begin: Callable[[], Training], end: RecordedEnd, wish: StopWish, limit: TimeLimit
) -> TrainResult | None:
    """Trains from the newest commit; None when the run has to go back to one once more."""
    training = begin()
    try:
        return training.run(wish, limit)
    except RollBackError as error:
        log.info("%s", error)
        return None
    finally:
        end.step = training.step
        training.close()


def _record_stall(
    end: RecordedEnd, log_path: Path, reason: str, bad_nodes: tuple[str, ...], step: int
) -> None:
    """Keeps what a watchdog has found, and the newest collectives beside the log."""
    try:  # the file first: a store may take longer than there is time
        log_path.with_suffix(".collectives.json").write_bytes(collectives_trace())
    finally:
        end.keep("failed", reason, step, bad_nodes=bad_nodes)
