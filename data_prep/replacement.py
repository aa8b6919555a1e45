"""What stands in for a sample that cannot be read, and how many of those a run may bear.

A sample that was fine when it was sharded may have been damaged since. Another one is taken in its
place: drawn from the seed and the position alone, so that every rank and worker takes the same.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sigma_pipeline.data_prep.draws import generator

MAX_TRIES = 8
"""Others that are tried for one position; so many bad ones are no accident."""
ALWAYS_ALLOWED = 16
"""Bad samples that a run bears whatever their share: a small dataset has bad luck too."""


@dataclass(frozen=True)
class Replaced:
    """A bad sample, and where in the order another was taken for it."""

    dataset: str
    split: str
    key: str
    """Of the sample; unique in its split."""
    tar: str
    """Key of the shard in the store."""
    source: str
    reason: str
    epoch: int
    position: int


def stand_ins(seed: int, epoch: int, position: int, candidates: range) -> Iterator[int]:
    """Samples to try, in turn, where the one at ``position`` is bad.

    Args:
        seed: of the run.
        epoch: of the position.
        position: first one of the clips that are cut from the sample.
        candidates: samples of the same dataset.
    """
    for attempt in range(MAX_TRIES):
        draws = generator(seed, epoch, position, f"replacement-{attempt}")
        yield candidates[int(draws.integers(len(candidates)))]


def is_over_budget(num_replaced: int, num_taken: int, max_bad_fraction: float) -> bool:
    """Whether too many of the samples taken so far were bad."""
    return num_replaced > max(ALWAYS_ALLOWED, max_bad_fraction * num_taken)


def damaged_shards(replaced: Iterable[Replaced]) -> Counter[tuple[str, str, str]]:
    """Distinct bad samples by (dataset, split, tar), most of them first."""
    distinct = {(each.dataset, each.split, each.tar, each.key) for each in replaced}
    return Counter(place[:3] for place in sorted(distinct))
