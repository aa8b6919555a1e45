"""The benchmarks there are, what data each needs, and whether a recipe's splits have it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.benchmark import Benchmark, Cost, Needs
from sigma_pipeline.jobs.benchmarks.table import all_benchmarks
from sigma_pipeline.jobs.obstacles import SplitContent

SHARD_COMMAND = "sigma-pipeline run --stage shard"


@dataclass(frozen=True)
class SplitState:
    """Whether a benchmark can be made on a split."""

    dataset: str
    split: str
    state: Literal["ready", "not sharded", "lacking"]
    reason: str = ""
    """What is lacking, or which command makes the split."""


@dataclass(frozen=True)
class ListedBenchmark:
    """One benchmark, with its default settings."""

    name: str
    version: int
    cost: Cost
    summary: str
    needs: tuple[str, ...]
    """In words: ``training split``, ``labels``, ``object masks``, ``encoder``."""
    splits: tuple[SplitState, ...]
    """Of a recipe, in its order."""


def benchmark_list(
    storage: Storage, splits: Mapping[tuple[str, str], DatasetRef | None]
) -> list[ListedBenchmark]:
    """All benchmarks, by name.

    Args:
        storage: holds the splits.
        splits: by dataset and name, in the order to show them; None: not sharded yet.
    """
    contents = {
        place: None if ref is None else SplitContent(Index.load(storage, ref))
        for place, ref in splits.items()
    }
    return [_listed(found(), contents) for found in all_benchmarks().values()]


def _listed(
    benchmark: Benchmark, contents: Mapping[tuple[str, str], SplitContent | None]
) -> ListedBenchmark:
    return ListedBenchmark(
        name=benchmark.name,
        version=benchmark.version,
        cost=benchmark.cost,
        summary=benchmark.summary,
        needs=tuple(_in_words(benchmark.needs)),
        splits=tuple(_state(place, contents, benchmark.needs) for place in contents),
    )


def _in_words(needs: Needs) -> list[str]:
    words = {
        "training split": needs.train,
        "labels": needs.labels or needs.all_labels,
        "groups": needs.groups,
        "object masks": needs.masks,
        "boxes of persons": needs.boxes,
        "cycle boundaries": needs.cycles,
        "tokens": needs.tokens,
        "encoder": needs.encoder,
    }
    return [word for word, is_needed in words.items() if is_needed]


def _state(
    place: tuple[str, str],
    contents: Mapping[tuple[str, str], SplitContent | None],
    needs: Needs,
) -> SplitState:
    """Of the split at ``place`` as the one that is scored."""
    content = contents[place]
    if content is None:
        return SplitState(*place, "not sharded", f"make it with: {SHARD_COMMAND}")
    obstacle = content.test_obstacle(needs)
    if obstacle is None and needs.train:
        dataset, split = place
        others = [found for at, found in contents.items() if at[0] == dataset and at != place]
        if all(other is None or other.train_obstacle(needs) for other in others):
            obstacle = f"dataset {dataset!r} lacks a split to learn this from beside {split!r}"
    return SplitState(*place, "lacking" if obstacle else "ready", obstacle or "")
