"""What training writes down: numbers to the journal, a line of progress, where the time went."""

import logging
import resource
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist

from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.train_step import StepOutcome
from sigma_pipeline.model.health import collapse_warnings

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 30.0


class TimeLedger:
    """Seconds of the run by what they were spent on; carried from commit to commit."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def add(self, seconds: Mapping[str, float]) -> None:
        """Adds what earlier attempts have spent."""
        for purpose, spent_s in seconds.items():
            self.seconds[purpose] = self.seconds.get(purpose, 0) + spent_s

    @contextmanager
    def spent_on(self, purpose: str) -> Iterator[None]:
        """Adds the time inside to ``purpose``."""
        started_s = time.monotonic()
        try:
            yield
        finally:
            self.add({purpose: time.monotonic() - started_s})


class TrainRecord:
    """Numbers of the steps, over all ranks; rank 0 holds the pen."""

    def __init__(
        self,
        context: RankContext,
        journal: Journal | None,
        ledger: TimeLedger,
        *,
        total_steps: int,
        global_batch_clips: int,
    ) -> None:
        self._context = context
        self._journal = journal
        self._ledger = ledger
        self._total_steps = total_steps
        self._global_batch_clips = global_batch_clips
        self._since: dict[str, float] = dict(ledger.seconds)
        self._steps_since = 0
        self._shown_at_s = time.monotonic()
        self._warned: set[str] = set()

    def announce(
        self, attempt: str, datasets: Iterable[Mapping[str, str]], uris: Iterable[str]
    ) -> None:
        """Facts of this attempt, and what it reads: datasets, and where each lies."""
        if self._journal is not None:
            world_size = str(self._context.world_size)
            self._journal.tags({"train/attempt": attempt, "train/world_size": world_size})
            for dataset, uri in zip(datasets, uris, strict=True):
                self._journal.dataset(**dataset, uri=uri)

    def count(self) -> None:
        """Counts a step since the last numbers."""
        self._steps_since += 1

    def write(
        self, step: int, outcome: StepOutcome, learning_rate: float, replaced_samples: int
    ) -> None:
        """Numbers of the step just taken. A collective: every rank calls it for the same steps."""
        values = self._over_ranks(outcome)
        values |= {"lr": learning_rate, "gradient_norm": outcome.gradient_norm}
        values["replaced_samples"] = replaced_samples
        if self._journal is not None:
            self._journal.metrics(
                step, {f"train/{name}": number for name, number in values.items()}
            )
            self._show(step, values)
            self._warn(step, values)

    def flush(self) -> None:
        """Brings all numbers so far to the store; before a commit, so that none is lost."""
        if self._journal is not None:
            self._journal.flush()

    def _over_ranks(self, outcome: StepOutcome) -> dict[str, float]:
        names = list(outcome.numbers)
        means = torch.stack([outcome.numbers[name].double() for name in names]).cpu()
        means = self._context.reduce(means, dist.ReduceOp.SUM) / self._context.world_size
        step_s, wait_s = self._time_since()
        slowest = torch.tensor([step_s + wait_s, wait_s, _peak_memory_gib()], dtype=torch.float64)
        busy_s, wait_s, memory_gib = self._context.reduce(slowest, dist.ReduceOp.MAX).tolist()
        clips = self._steps_since * self._global_batch_clips
        self._steps_since = 0
        return dict(zip(names, means.tolist(), strict=True)) | {
            "clips_per_s": clips / busy_s,
            "data_wait_fraction": wait_s / busy_s,
            "peak_memory_gib": memory_gib,
        }

    def _time_since(self) -> tuple[float, float]:
        """Seconds in steps and in waiting for data since the last numbers."""
        now = dict(self._ledger.seconds)
        spent = {name: now[name] - self._since.get(name, 0) for name in now}
        self._since = now
        return spent.get("step_s", 0), spent.get("data_wait_s", 0)

    def _show(self, step: int, values: Mapping[str, float]) -> None:
        now_s = time.monotonic()
        if now_s - self._shown_at_s < PROGRESS_INTERVAL_S and step < self._total_steps:
            return
        self._shown_at_s = now_s
        left_s = (self._total_steps - step) * self._global_batch_clips / values["clips_per_s"]
        log.info(
            "Step %d of %d: loss %.4f, %.1f clips/s, %.0f%% waiting for data, %.2f GiB, %s left",
            step,
            self._total_steps,
            values["loss"],
            values["clips_per_s"],
            100 * values["data_wait_fraction"],
            values["peak_memory_gib"],
            duration(left_s),
        )

    def _warn(self, step: int, values: Mapping[str, float]) -> None:
        """Of numbers that show collapse; once, until they are well again."""
        warnings = collapse_warnings(values)
        for name, warning in warnings.items():
            if name not in self._warned:
                log.warning("Step %d: %s", step, warning)
        self._warned = set(warnings)


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, rest_min = divmod(minutes, 60)
    return f"{hours} h {rest_min:02d} min" if hours else f"{minutes} min {rest_s:02d} s"


def _peak_memory_gib() -> float:
    """Largest use so far: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # given in KiB
