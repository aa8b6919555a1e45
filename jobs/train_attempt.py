"""One attempt of a training job: whether it may begin, and what is recorded of its end."""

import logging
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from sigma_pipeline.infra.errors import (
    BadNodes,
    ConfigError,
    MissingInputError,
    PipelineError,
    StageError,
    StoreRefuses,
)
from sigma_pipeline.infra.mlflow_run import Status
from sigma_pipeline.infra.storage import Storage, open_storage, read_json
from sigma_pipeline.infra.tracking import note_status
from sigma_pipeline.jobs.attempts import (
    AttemptEnd,
    AttemptRecord,
    EndState,
    attempts_without_progress,
    is_cancelled,
    note_taken,
    now_ms,
    read_verdict,
    record_end,
    register_attempt,
    verdict_on,
    write_verdict,
)
from sigma_pipeline.jobs.chain import mark_chain_cancelled
from sigma_pipeline.jobs.commits import manifest_key, newest_step
from sigma_pipeline.jobs.job_failures import is_lost_connection
from sigma_pipeline.jobs.node_names import node_name, nodes_by_rank
from sigma_pipeline.jobs.train_request import RankPlace, TrainRequest
from sigma_pipeline.jobs.train_result import TrainResult, stopped_before_start

log = logging.getLogger(__name__)


def slurm_job_id() -> str | None:
    """The number of the SLURM job that this process belongs to."""
    return os.environ.get("SLURM_JOB_ID")


def slurm_restart() -> int:
    """How often SLURM had started this job before."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def ended_before(storage: Storage, request: TrainRequest) -> TrainResult | None:
    """The result of a training that is not to go on; None where an attempt may begin.

    Asked by one rank, for all.

    Raises:
        StageError: the run was given up, or is so now, for attempt after attempt has failed.
    """
    run_name, job_id = request.run_name, slurm_job_id()
    try:
        manifest = read_json(storage, manifest_key(run_name))
    except FileNotFoundError:
        pass
    else:
        return TrainResult(
            state="finished",
            run_name=run_name,
            step=manifest["step"],
            commit=manifest["commit"],
            reason="",
        )
    if job_id is not None and is_cancelled(storage, run_name, job_id):
        return stopped_before_start(request, "cancelled")
    _require_hope(storage, request)
    return None


def _require_hope(storage: Storage, request: TrainRequest) -> None:
    """Where a batch script died with its node, nobody else has counted the attempt."""
    verdict = read_verdict(storage, request.run_name)
    if verdict is None:
        step = newest_step(storage, request.run_name)
        latest = attempts_without_progress(storage, request.run_name, step, request.failures_since)
        failures = [attempt for attempt in latest if attempt.is_failure]
        if len(failures) < request.max_attempts_without_progress:
            return
        verdict = verdict_on(failures, step=step, log_path=request.work_dir)
        write_verdict(storage, request.run_name, verdict)
    raise StageError(f"run {request.run_name!r} was {verdict.reason}")


def begin_attempt(
    storage: Storage, request: TrainRequest, hosts: Sequence[str], began_ms: int | None = None
) -> tuple[str, int]:
    """Registers an attempt; returns its id, and the step of the newest commit.

    Args:
        storage: where the run lies.
        request: what is trained.
        hosts: of the processes, by rank.
        began_ms: when, in milliseconds since 1970; now when absent.
    """
    step = newest_step(storage, request.run_name)
    record = AttemptRecord(
        host=hosts[0],
        pid=os.getpid(),
        world_size=len(hosts),
        config_fingerprint=request.config_fingerprint,
        started_ms=now_ms() if began_ms is None else began_ms,
        from_step=step,
        job_id=slurm_job_id(),
        restart=slurm_restart(),
        nodes=tuple(hosts),
    )
    return register_attempt(storage, request.run_name, record), step


def record_refusal(request: TrainRequest, place: RankPlace, error: PipelineError) -> None:
    """Keeps what went wrong before the processes had met, as an attempt that ended at once."""
    storage = open_storage(request.root_uri)
    hosts = nodes_by_rank(place.world_size) or (node_name(),) * place.world_size
    attempt, step = begin_attempt(storage, request, hosts)
    RecordedEnd(storage, request.run_name, attempt, rank=place.rank, step=step).keep_error(error)


def try_to_note(storage: Storage, run_name: str, status: Status) -> None:
    """Leaves word for MLflow of how the run stands; where that cannot be kept, it warns."""
    try:
        note_status(storage, run_name, status)
    except (PipelineError, OSError) as error:
        log.warning("Status %s of run %s not kept: %s", status, run_name, error)


def note_cancelled(storage: Storage, run_name: str) -> None:
    """Tells MLflow, and the next jobs of a chain, which are not to go on.

    Before all is saved: SLURM may leave no time for it afterwards.
    """
    job_id = slurm_job_id()
    try:
        if job_id is not None:
            mark_chain_cancelled(storage, run_name, job_id)
    except (PipelineError, OSError) as error:
        log.warning("That job %s was cancelled is not kept: %s", job_id, error)
    try_to_note(storage, run_name, "KILLED")


class RecordedEnd:
    """Keeps how an attempt ended when the block inside it is left; every rank has one.

    A result is kept by rank 0. An error is kept by the rank that has it first: the others lose the
    connection to that one. That is kept by nobody: it does not tell why, and where the rank was
    killed only who started it can.
    """

    def __init__(
        self, storage: Storage, run_name: str, attempt: str, *, rank: int, step: int
    ) -> None:
        self._storage = storage
        self._run_name = run_name
        self.attempt = attempt
        """Its id."""
        self._rank = rank
        self.result: TrainResult | None = None
        """To be set when there is one."""
        self.step = step
        """Steps taken so far; goes with an error."""

    def __enter__(self) -> Self:
        """Nothing is kept yet."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """An error goes on."""
        if error is not None and _is_consequence(error):
            log.error("The connection to another rank was lost: %s", _first_line(error))
        elif error is not None:
            self.keep_error(error)
        elif self.result is not None and self._rank == 0:
            self.keep(self.result["state"], self.result["reason"], self.result["step"])

    def keep(
        self,
        state: EndState,
        reason: str,
        step: int,
        *,
        bad_nodes: tuple[str, ...] = (),
        is_final: bool = False,
    ) -> None:
        """Keeps the end, unless there is word of it already; where it cannot, it warns."""
        end = AttemptEnd(
            state=state,
            reason=reason,
            step=step,
            ended_ms=now_ms(),
            bad_nodes=bad_nodes,
            is_final=is_final,
        )
        try:
            record_end(self._storage, self._run_name, self.attempt, end)
        except (PipelineError, OSError) as failure:
            log.warning("How this attempt ended is not kept: %s", failure)

    def keep_error(self, error: BaseException) -> None:
        """Keeps what ended the attempt."""
        # A store that has let the job in before may do so again.
        is_final = isinstance(error, ConfigError | MissingInputError) and not isinstance(
            error, StoreRefuses
        )
        bad_nodes = error.hosts if isinstance(error, BadNodes) else ()
        self.keep("failed", self._said(error), self.step, bad_nodes=bad_nodes, is_final=is_final)

    def note_taken(self) -> None:
        """SLURM takes the nodes away: holds unless the attempt comes to say how it ended."""
        try:
            note_taken(self._storage, self._run_name, self.attempt, self.step)
        except (PipelineError, OSError) as failure:
            log.warning("That SLURM takes the nodes away is not kept: %s", failure)

    def keep_death_at_limit(self) -> None:
        """The job ends now: SLURM would end it soon, and its batch script too."""
        self.keep("died", "its time limit came before it had saved", self.step)

    def _said(self, error: BaseException) -> str:
        text = _first_line(error)
        if not isinstance(error, PipelineError):
            text = f"{type(error).__name__}: {text}"
        is_said = self._rank == 0 or text.startswith("rank ")
        return text if is_said else f"rank {self._rank}: {text}"


def _is_consequence(error: BaseException) -> bool:
    return not isinstance(error, PipelineError) and is_lost_connection(_first_line(error))


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
