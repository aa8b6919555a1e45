"""What sharding a dataset would cost, measured on a few of its items; nothing is stored."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.sample import SampleSettings
from sigma_pipeline.data_prep.verdicts import Reason, Rejected
from sigma_pipeline.jobs.shard_limits import prepare_limited
from sigma_pipeline.jobs.shard_link import Link
from sigma_pipeline.jobs.shard_plan import DatasetPlan

_NUM_TRIED = 8


@dataclass(frozen=True)
class Trial:
    """What preparing one item took and gave."""

    source_bytes: int
    stored_bytes: int = 0
    cpu_s: float = 0.0
    megapixels: float = 0.0
    """Of all frames together, as they are stored."""
    rejected: Reason | None = None


@dataclass(frozen=True)
class Cost:
    """What a dataset would take, by the trials of some of its items.

    Extrapolated by the bytes of the sources, which are all that is known of the others. Those of
    one dataset have mostly been encoded alike, so that pixels follow bytes.
    """

    num_items: int
    source_bytes: int
    """Of all items."""
    trials: tuple[Trial, ...]

    @property
    def stored_bytes(self) -> float:
        """Of all samples."""
        return self._scale * sum(trial.stored_bytes for trial in self.trials)

    @property
    def cpu_s(self) -> float:
        """Seconds of one core."""
        return self._scale * sum(trial.cpu_s for trial in self.trials)

    @property
    def _scale(self) -> float:
        return self.source_bytes / max(1, sum(trial.source_bytes for trial in self.trials))

    def describe(self, workers: int) -> str:
        """One line, with the time that so many worker processes would take on as many cores."""
        tried_s = sum(trial.cpu_s for trial in self.trials)
        megapixels = sum(trial.megapixels for trial in self.trials)
        rejected = [trial.rejected for trial in self.trials if trial.rejected]
        refused = f", {len(rejected)} rejected ({', '.join(sorted(rejected))})" if rejected else ""
        plural = "s" if workers != 1 else ""
        return (
            f"by {len(self.trials)} of {self.num_items} items{refused}: "
            f"{self.source_bytes / 1e6:.1f} MB become {self.stored_bytes / 1e6:.1f} MB in "
            f"{_duration(self.cpu_s)} of one core ({megapixels / max(tried_s, 1e-9):.0f} "
            f"megapixels/s); {_duration(self.cpu_s / workers)} with {workers} worker{plural}"
        )


def estimate(plan: DatasetPlan, splits: Iterable[str]) -> Cost | None:
    """Prepares up to 8 items of ``splits``, the same ones each time, in a process of their own.

    They are spread over the list and prepared within the limits, whether their shards are there
    or not. None where there is no item.

    Raises:
        StageError: a source changed meanwhile.
    """
    wanted = set(splits)
    units = (unit for split in plan.splits if split.ref.split in wanted for unit in split.units)
    items = [item for unit in units for item in unit]
    if not items:
        return None
    trials = tuple(_try(_spread(items), plan.sample_settings))
    return Cost(len(items), sum(item.source_bytes for item in items), trials)


def _spread(items: Sequence[Item]) -> list[Item]:
    """From the middle of each of equal parts of the list."""
    count = min(_NUM_TRIED, len(items))
    return [items[(2 * place + 1) * len(items) // (2 * count)] for place in range(count)]


def _try(items: Iterable[Item], settings: SampleSettings) -> Iterator[Trial]:
    waiting = list(items)
    with tempfile.TemporaryDirectory() as folder, Link(Path(folder)) as link:
        while waiting:
            with link.pool(1) as pool:
                try:
                    while waiting:
                        yield pool.submit(_prepare_timed, waiting[0], settings).result()
                        del waiting[0]
                except BrokenProcessPool:
                    yield Trial(waiting.pop(0).source_bytes, rejected="crashed_decoder")


def _prepare_timed(item: Item, settings: SampleSettings) -> Trial:
    """Runs in a worker."""
    start_s = time.process_time()
    try:
        sample = prepare_limited(item, settings)
    except Rejected as verdict:
        cpu_s = time.process_time() - start_s
        return Trial(item.source_bytes, cpu_s=cpu_s, rejected=verdict.reason)
    except MemoryError:
        return Trial(item.source_bytes, rejected="too_large")
    facts = sample.probe
    return Trial(
        source_bytes=item.source_bytes,
        stored_bytes=sum(len(content) for _, content in sample.members),
        cpu_s=time.process_time() - start_s,
        megapixels=facts.frames * facts.width * facts.height / 1e6,
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
