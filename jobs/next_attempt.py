"""The decision what follows an attempt at training, out of what is known of it: a pure function."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sigma_pipeline.jobs.attempts import Attempt, AttemptEnd, EndState, now_ms
from sigma_pipeline.jobs.slurm import JobView

LONGEST_BACKOFF_S = 3600.0
_IDLE_STOPS_PER_FAILURE = 10
"""A stop before any step is no failure, but a run that does nothing else must come to an end."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How a training lives on."""

    continue_by: Literal["requeue", "chain"]
    """``chain``: the next job is in the queue already."""
    max_attempts_without_progress: int
    backoff_s: float
    """Doubled with each failure in a row without progress."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known when the processes of an attempt are gone."""

    status: int
    """srun's exit status."""
    restart: int = 0
    """How often SLURM had started the job before this attempt."""
    job: JobView | None = None
    """None where SLURM does not answer."""
    is_finished: bool = False
    is_marked: bool = False
    """Whether our own command to cancel it has left word of that."""
    is_given_up: bool = False
    """Before this attempt; it did not begin."""
    overtaken_by: str | None = None
    """A job that was submitted later and trains the same run."""
    newest_step: int = 0
    """Of the newest commit."""
    attempt: Attempt | None = None
    """What this attempt left; None of one that did not come to register."""
    earlier: Sequence[Attempt] = ()
    """Those just before it, the newest first, that brought no commit after ``newest_step``."""
    is_blind: bool = False
    """Whether the store did not answer, so that nothing but ``status`` and ``job`` is known."""

    @property
    def has_progressed(self) -> bool:
        """Whether this attempt brought a commit."""
        return self.attempt is not None and self.attempt.from_step < self.newest_step

    @property
    def is_restarted(self) -> bool:
        """Whether SLURM is ending the job to start it again by itself."""
        return self.job is not None and self.job.restarts > self.restart

    @property
    def is_taken(self) -> bool:
        """Whether SLURM takes the nodes away: neither a failure nor a will of its own."""
        is_preempted = self.job is not None and self.job.preempt_time_s is not None
        is_noted = self.attempt is not None and self.attempt.is_taken
        return is_preempted or is_noted or self.is_restarted

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants the job to go on."""
        return self.is_marked or (self.job is not None and self.job.is_cancelled(self.restart))


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do."""

    action: Literal["requeue", "next_link", "give_up", "nothing"]
    """``next_link``: of a chain; it is in the queue already."""
    exit_status: int
    """Of the batch script: 0 finished or continued, 75 stopped, 1 failed."""
    end: AttemptEnd
    """As the attempt itself recorded it, else as the circumstances tell."""
    after_s: float = 0.0
    without: tuple[str, ...] = ()
    """Nodes not to be used again."""
    failures: Sequence[Attempt] = ()
    """In a row without progress, or stops before any step, the newest first."""
    run_status: Literal["KILLED", "FAILED"] | None = None
    """For MLflow, where the run ends here."""


def decide(situation: Situation, policy: Policy) -> Decision:
    """What follows the attempt."""
    end = _end_of(situation)
    if situation.is_finished or situation.is_restarted:
        return Decision(action="nothing", exit_status=0, end=end)
    if situation.is_cancelled:
        return Decision(action="nothing", exit_status=75, end=end, run_status="KILLED")
    if situation.is_given_up:
        return Decision(action="nothing", exit_status=1, end=end, run_status="FAILED")
    if situation.overtaken_by is not None:
        return Decision(action="nothing", exit_status=1, end=end)
    this = _with_end(situation, end)
    if not (end.is_failure or this.is_idle):
        return _continued(policy, end)
    alike = [] if situation.has_progressed else [this, *_alike(situation.earlier, this)]
    limit = policy.max_attempts_without_progress * (
        1 if end.is_failure else _IDLE_STOPS_PER_FAILURE
    )
    if end.is_final or (len(alike) >= limit and not situation.is_blind):
        return Decision(
            action="give_up",
            exit_status=1,
            end=end,
            failures=alike or [this],
            run_status="FAILED",
        )
    doublings = min(max(len(alike) - 1, 0), 20)
    after_s = min(policy.backoff_s * 2.0**doublings, LONGEST_BACKOFF_S)
    return _continued(policy, end, after_s=after_s, failures=alike)


def _continued(
    policy: Policy, end: AttemptEnd, *, after_s: float = 0.0, failures: Sequence[Attempt] = ()
) -> Decision:
    """The next attempt by ``requeue``; in a chain the next job is there, and this one is over."""
    is_chain = policy.continue_by == "chain"
    return Decision(
        action="next_link" if is_chain else "requeue",
        exit_status=(1 if end.is_failure else 75) if is_chain else 0,
        end=end,
        after_s=after_s,
        without=end.bad_nodes,
        failures=failures,
    )


def _with_end(situation: Situation, end: AttemptEnd) -> Attempt:
    attempt = situation.attempt or Attempt("", None, None)
    return replace(attempt, end=end, is_taken=situation.is_taken)


def _alike(attempts: Sequence[Attempt], this: Attempt) -> list[Attempt]:
    """Failures go with failures, and stops before any step with such stops."""
    if this.is_failure:
        return [attempt for attempt in attempts if attempt.is_failure]
    return [attempt for attempt in attempts if attempt.is_idle]


def _end_of(situation: Situation) -> AttemptEnd:
    if situation.attempt is not None and situation.attempt.end is not None:
        return situation.attempt.end
    state, reason = _circumstances(situation)
    return AttemptEnd(state=state, reason=reason, step=situation.newest_step, ended_ms=now_ms())


def _circumstances(situation: Situation) -> tuple[EndState, str]:
    """How an attempt ended that said nothing."""
    job = situation.job
    if situation.is_finished:
        return "finished", ""
    if situation.is_cancelled:
        return "stopped", "cancelled"
    if situation.is_restarted:
        return "stopped", "SLURM took its nodes away and queued it again"
    if job is not None and job.preempt_time_s is not None:
        return "stopped", "preempted by another job"
    if job is not None and job.reason == "TimeLimit":
        return "died", "its time limit came before it had saved"
    how = _shown(situation.status)
    if situation.attempt is None and not situation.is_blind:
        return "died", f"ended before it began to train, {how}; its log says why"
    return "died", f"ended without a word, {how}"


def _shown(status: int) -> str:
    """Exit statuses above 128 stand for signals, in the shell's way."""
    try:
        name = signal.Signals(status - 128).name
    except ValueError:
        return f"exit status {status}"
    memory = ", or out of memory" if name == "SIGKILL" else ""
    return f"killed by {name}{memory}"
