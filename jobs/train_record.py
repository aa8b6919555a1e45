"""What training writes down: numbers to the journal, a line of progress, and warnings."""

import logging
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist

from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.pace import Pace
from sigma_pipeline.jobs.time_ledger import TimeLedger, duration, ledger_metrics
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_step import StepOutcome
from sigma_pipeline.model.health import SpikeWatch, collapse_warnings

log = logging.getLogger(__name__)

Datasets = Sequence[Mapping[str, str]]

PROGRESS_INTERVAL_S = 30.0
NOTABLE_LAG = 1.1
"""Of the slowest rank, over the mean of all, from which the line of progress names it."""


@dataclass(frozen=True)
class Workload:
    """What a step has to do, and on what."""

    total_steps: int
    global_batch_clips: int
    clip_flops: int = 0
    """Floating-point operations that training on one clip takes."""
    peak_flops: float | None = None
    """Of one device, per second; None where it is not known."""


class Speed(NamedTuple):
    """Of the steps since the last numbers, over all ranks."""

    numbers: dict[str, float]
    slowest_host: str


class TrainRecord:
    """Numbers of the steps, over all ranks; rank 0 holds the pen."""

    def __init__(
        self,
        context: RankContext,
        journal: Journal | None,
        ledger: TimeLedger,
        pace: Pace,
        workload: Workload,
    ) -> None:
        self._context = context
        self._journal = journal
        self._ledger = ledger
        self._pace = pace
        self._work = workload
        self._since = ledger.seconds
        self._steps_since = 0
        self._shown_at_s = time.monotonic()
        self._spikes = SpikeWatch()
        self._warned: set[str] = set()

    def announce(
        self,
        attempt: str,
        request: TrainRequest,
        datasets: Datasets,
        storage: Storage,
        *,
        step: int,
    ) -> None:
        """Facts of this attempt, to the log and to the journal.

        Args:
            attempt: its id.
            request: what is trained.
            datasets: what it reads, by the facts of their manifests.
            storage: where they lie.
            step: that it goes on from.
        """
        prefixes = [ref.prefix for ref in request.datasets]
        log.info(
            "Training run %s, attempt %s: %s, steps %d to %d, %d clips a step on %d process(es), "
            "settings %s",
            request.run_name,
            attempt,
            ", ".join(prefixes),
            step,
            self._work.total_steps,
            request.train.global_batch_clips,
            self._context.world_size,
            request.config_fingerprint,
        )
        if self._journal is not None:
            world_size = str(self._context.world_size)
            self._journal.tags({"train/attempt": attempt, "train/world_size": world_size})
            for dataset, uri in zip(datasets, map(storage.uri, prefixes), strict=True):
                self._journal.dataset(**dataset, uri=uri)

    def count(self) -> None:
        """Counts a step since the last numbers."""
        self._steps_since += 1

    def write(
        self, step: int, outcome: StepOutcome, learning_rate: float, counts: Mapping[str, float]
    ) -> None:
        """Numbers of the step just taken. A collective: every rank calls it for the same steps.

        Args:
            step: number of the step, from 1.
            outcome: on this rank.
            learning_rate: of the step.
            counts: since the start of the run, the same on all ranks: ``replaced_samples``, ...
        """
        values = self._means(outcome)
        speed = self._speed()
        values |= speed.numbers
        values |= counts
        values |= {"lr": learning_rate, "gradient_norm": outcome.gradient_norm}
        if self._journal is None:
            return
        warnings = collapse_warnings(values) | self._spike_warnings(values["loss"])
        values["warnings"] = len(warnings)
        metrics = {f"train/{name}": number for name, number in values.items()}
        self._journal.metrics(step, metrics | ledger_metrics(self._ledger.seconds))
        self._show(step, values, speed.slowest_host)
        self._warn(step, warnings, self._journal)

    def _means(self, outcome: StepOutcome) -> dict[str, float]:
        names = list(outcome.numbers)
        means = torch.stack([outcome.numbers[name].double() for name in names]).cpu()
        means = self._context.reduce(means, dist.ReduceOp.SUM) / self._context.world_size
        return dict(zip(names, means.tolist(), strict=True))

    def _speed(self) -> Speed:
        """Of all ranks together by the slowest, which is named by what it does before it waits."""
        step_s, wait_s = self._time_since()
        own_s = self._pace.take_s() + wait_s
        told = self._context.all_gather((step_s, wait_s, own_s, _peak_memory_gib()))
        busy_s = max(step_s + wait_s for step_s, wait_s, *_ in told)
        clips_per_s = self._steps_since * self._work.global_batch_clips / busy_s
        self._steps_since = 0
        numbers = {
            "clips_per_s": clips_per_s,
            "data_wait_fraction": max(wait_s for _, wait_s, *_ in told) / busy_s,
            "peak_memory_gib": max(memory_gib for *_, memory_gib in told),
        }
        own = [own_s for _, _, own_s, _ in told]
        slowest = own.index(max(own))
        if len(own) > 1:
            numbers["slowest_rank"] = slowest
            numbers["slowest_rank_lag"] = max(own) * len(own) / sum(own) if sum(own) else 1.0
        if self._work.peak_flops is not None:
            reachable = self._work.peak_flops * self._context.world_size
            numbers["mfu"] = clips_per_s * self._work.clip_flops / reachable
        return Speed(numbers, self._context.hosts[slowest])

    def _time_since(self) -> tuple[float, float]:
        """Seconds in steps and in waiting for data since the last numbers."""
        now = self._ledger.seconds
        spent = {name: now[name] - self._since.get(name, 0) for name in now}
        self._since = now
        return spent.get("productive_s", 0), spent.get("data_wait_s", 0)

    def _show(self, step: int, values: Mapping[str, float], slowest_host: str) -> None:
        now_s = time.monotonic()
        if now_s - self._shown_at_s < PROGRESS_INTERVAL_S and step < self._work.total_steps:
            return
        self._shown_at_s = now_s
        clips = (self._work.total_steps - step) * self._work.global_batch_clips
        log.info(
            "Step %d of %d: loss %.4f, %.1f clips/s, %.0f%% waiting for data, %.2f GiB%s, %s left",
            step,
            self._work.total_steps,
            values["loss"],
            values["clips_per_s"],
            100 * values["data_wait_fraction"],
            values["peak_memory_gib"],
            _of_interest(values, slowest_host),
            duration(clips / values["clips_per_s"]),
        )

    def _spike_warnings(self, loss: float) -> dict[str, str]:
        usual = self._spikes.look(loss)
        if usual is None:
            return {}
        return {
            "loss": f"the loss is {loss:.4g}, where {usual:.4g} was usual; if it does not come "
            "back down, look at train.optimizer.base_lr and gradient_clip_norm"
        }

    def _warn(self, step: int, warnings: Mapping[str, str], journal: Journal) -> None:
        """Of numbers that show something wrong; once, until they are well again."""
        for name, warning in warnings.items():
            if name not in self._warned:
                log.warning("Step %d: %s", step, warning)
                journal.tags({"train/warning": f"step {step}: {warning}"})
        self._warned = set(warnings)


def _of_interest(values: Mapping[str, float], slowest_host: str) -> str:
    """Parts of the line of progress that are not always there."""
    parts = ""
    if "mfu" in values:
        parts += f", MFU {100 * values['mfu']:.1f}%"
    lag = values.get("slowest_rank_lag", 1.0)
    if lag > NOTABLE_LAG:
        rank = values["slowest_rank"]
        parts += f", rank {rank:.0f} on {slowest_host} slow by {100 * (lag - 1):.0f}%"
    return parts


def _peak_memory_gib() -> float:
    """Largest use so far: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # given in KiB
