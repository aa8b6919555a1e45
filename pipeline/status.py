"""Where a run stands, for a person who comes back after days: a block of lines per stage."""

import time
from collections.abc import Iterable, Iterator

from sigma_pipeline.data_prep.manifest import Manifest
from sigma_pipeline.jobs.attempts import Attempt
from sigma_pipeline.jobs.shard_summary import list_reasons
from sigma_pipeline.jobs.slurm import JobView
from sigma_pipeline.jobs.submission import JobStage
from sigma_pipeline.jobs.time_ledger import describe_ledger, duration
from sigma_pipeline.pipeline.run_jobs import RunJob, is_waiting
from sigma_pipeline.pipeline.run_state import RunState
from sigma_pipeline.pipeline.train_progress import Progress

_COLUMN = 10
_SHOWN_JOBS = 6
_SILENT_MS = 5 * 60 * 1000
"""After which a training that is no job of SLURM is not said to go on."""


def describe_run(
    state: RunState, grid: Iterable[str] = (), *, num_missing: int = 0
) -> Iterator[str]:
    """Lines about each stage of a run.

    Args:
        state: of the run.
        grid: lines about the cells of its evaluation.
        num_missing: cells that are still to be made.
    """
    yield f"run {state.run_name} in {state.root_uri}"
    problem = state.facts.slurm_problem
    if problem is not None and any(job.is_slurms for job in state.jobs):
        yield f"SLURM cannot be asked: {problem}. This is what the store knows."
    yield from _block("shard", [*_splits(state), *_jobs(state, "shard")])
    yield from _block("train", _training(state))
    evaluation = [*_jobs(state, "evaluate"), *grid] or ["not begun"]
    if num_missing and is_left_alone(state):
        evaluation.append(
            "training is finished and no job does what is missing here: give the command "
            "sigma-pipeline run --stage evaluate"
        )
    yield from _block("evaluate", evaluation)


def is_left_alone(state: RunState) -> bool:
    """Whether SLURM has trained the run, and has no job any more."""
    return (
        state.train.is_finished
        and state.facts.slurm_problem is None
        and any(job.is_slurms for job in state.jobs)
        and not any(job.is_live for job in state.jobs)
    )


def _block(stage: JobStage, lines: Iterable[str]) -> Iterator[str]:
    head = f"{stage:{_COLUMN}}"
    for line in lines:
        yield f"{head}{line}"
        head = " " * _COLUMN


def _splits(state: RunState) -> Iterator[str]:
    for name, manifest in state.splits:
        yield f"{name}: {_split(manifest) if manifest else 'not there yet'}"


def _split(manifest: Manifest) -> str:
    others = manifest["rejected"] - manifest["rejected_counted"]
    return (
        f"{manifest['samples']} samples, {manifest['bytes'] / 1e6:.1f} MB, "
        f"{manifest['rejected_counted']} rejected{list_reasons([manifest])}, {others} other files, "
        f"version {manifest['version']}"
    )


def _jobs(state: RunState, stage: JobStage) -> Iterator[str]:
    """A line for each job that is live; without one, for the newest that SLURM still knows."""
    jobs = [job for job in state.jobs if job.stage == stage and job.views]
    shown = [job for job in jobs if job.is_live] or jobs[-1:]
    for job in shown[:_SHOWN_JOBS]:
        yield describe_job(job, state.now_ms / 1000)
    if len(shown) > _SHOWN_JOBS:
        yield f"and {len(shown) - _SHOWN_JOBS} more jobs"


def describe_job(job: RunJob, now_s: float) -> str:
    """What SLURM says of a job of the run; of an array, how many tasks are in which state."""
    of_step = "" if job.submission.step is None else f" (step {job.submission.step})"
    name = f"SLURM job {job.job_id}{of_step}"
    if len(job.views) == 1:
        return f"{name} {_view(job.views[0], now_s)}"
    states: dict[str, int] = {}
    for view in job.views:
        states[view.state] = states.get(view.state, 0) + 1
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"{name}: tasks {counts}"


def _view(view: JobView, now_s: float) -> str:
    times = "once" if view.restarts == 1 else f"{view.restarts} times"
    again = f", queued again {times}" if view.restarts else ""
    if is_waiting(view):
        start = view.start_time_s
        when = f", not before {_moment(start)}" if start is not None and start > now_s else ""
        return f"waits ({view.reason or view.state}{when}{again})"
    if view.is_running:
        left_s = None if view.end_time_s is None else max(0.0, view.end_time_s - now_s)
        left = "" if left_s is None else f", {duration(left_s)} of its time limit left"
        return f"runs on {view.nodes} since {_moment(view.start_time_s)}{left}{again}"
    if view.state == "COMPLETING":
        return f"is being ended on {view.nodes}{again}"
    status = "" if view.exit_code in ("", "0:0") else f", status {view.exit_code}"
    return f"has ended: {view.state}{status}, {_moment(view.end_time_s)}"


def _training(state: RunState) -> Iterator[str]:
    train = state.train
    yield _headline(state)
    yield from _jobs(state, "train")
    if train.progress is not None:
        yield from _progress(state, train.progress)
    if train.commit is not None:
        yield f"newest commit: step {train.commit.step}{_ago(train.committed_ms, state.now_ms)}"
    for number, attempt in enumerate(train.attempts):
        yield _attempt(attempt, train.num_attempts - number)
    if train.num_attempts > len(train.attempts):
        yield f"{train.num_attempts - len(train.attempts)} earlier attempts"
    if train.commit is not None and train.commit.ledger:
        yield f"time, up to step {train.commit.step}:"
        yield from describe_ledger(train.commit.ledger)


def _headline(state: RunState) -> str:
    """One sentence on whether it goes on."""
    train = state.train
    step = train.commit.step if train.commit else 0
    if train.is_finished:
        return f"finished at step {step}"
    if train.verdict is not None:
        return train.verdict.reason
    if is_going_on(state):
        return "goes on"
    trainings = [job for job in state.jobs if job.stage == "train"]
    if any(job.is_live for job in trainings):
        return "waits for SLURM to start it"
    if not trainings and not train.attempts and train.commit is None:
        return "not begun"
    of_total = f" of {train.total_steps}" if train.total_steps else ""
    is_cancelled = any(
        job.is_cancelled or job.job_id in state.facts.cancelled for job in trainings[-1:]
    )
    end = "cancelled" if is_cancelled else "does not go on"
    return f"{end}; committed up to step {step}{of_total}"


def is_going_on(state: RunState) -> bool:
    """Whether steps are taken now: by SLURM where it has the job, else by the last numbers."""
    trainings = [job for job in state.jobs if job.stage == "train"]
    if trainings and trainings[-1].is_slurms and state.facts.slurm_problem is None:
        return any(job.is_running for job in trainings)
    train = state.train
    if train.is_finished or not train.attempts or train.attempts[0].end is not None:
        return False
    record = train.attempts[0].record
    signs_ms = (train.progress and train.progress.time_ms, record and record.started_ms)
    return state.now_ms - max(time_ms or 0 for time_ms in signs_ms) < _SILENT_MS


def _progress(state: RunState, progress: Progress) -> Iterator[str]:
    train = state.train
    total = train.total_steps
    of_total = f" of {total} ({100 * progress.step / total:.1f} %)" if total else ""
    loss = "" if progress.loss is None else f", loss {progress.loss:.4f}"
    yield f"step {progress.step}{of_total}{loss}{_ago(progress.time_ms, state.now_ms)}"
    if progress.step_s is None or train.is_finished:
        return
    rate = train.global_batch_clips / progress.step_s
    line = f"{rate:.1f} clips/s, {progress.step_s:.3g} s per step"
    if total:
        line += _time_left(state, (total - progress.step) * progress.step_s)
    yield line + _slowest(progress)


def _time_left(state: RunState, left_s: float) -> str:
    if is_going_on(state):
        return f", {duration(left_s)} left: done {_moment(state.now_ms / 1000 + left_s)}"
    return f", another {duration(left_s)} when it goes on"


def _slowest(progress: Progress) -> str:
    if progress.slowest_rank is None:
        return ""
    lag = (
        f", {100 * (progress.slowest_lag - 1):.0f} % over the mean" if progress.slowest_lag else ""
    )
    return f"; slowest is rank {progress.slowest_rank}{lag}"


def _attempt(attempt: Attempt, number: int) -> str:
    record, end = attempt.record, attempt.end
    nodes = ", ".join(dict.fromkeys(record.nodes or (record.host,))) if record else ""
    began = f" from step {record.from_step} on {nodes}" if record else ""
    if end is None:
        since = f" since {_moment(record.started_ms / 1000)}" if record else ""
        return f"attempt {number}{since}{began}: no end is known"
    reason = f": {end.reason}" if end.reason else ""
    ended = _moment(end.ended_ms / 1000)
    return f"attempt {number}{began}: {end.state} at step {end.step}, {ended}{reason}"


def _ago(time_ms: int | None, now_ms: int) -> str:
    return "" if time_ms is None else f", {duration(max(0, now_ms - time_ms) / 1000)} ago"


def _moment(time_s: float | None) -> str:
    """In this machine's time zone."""
    return "?" if time_s is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(time_s))
