"""Which split a video belongs to, by names alone."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping


def draw_splits(
    names_and_classes: Iterable[tuple[str, str | None]], shares: Mapping[str, float]
) -> dict[str, str]:
    """The split of each name: every class is shared out by ``shares`` in the order of a hash.

    The order is the same for the same names, whatever machine or time. A class with at least as
    many videos as there are splits has one in each.
    """
    names_of: dict[str | None, list[str]] = defaultdict(list)
    for name, class_name in names_and_classes:
        names_of[class_name].append(name)
    split_of: dict[str, str] = {}
    for names in names_of.values():
        names.sort(key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
        remaining = iter(names)
        for split, count in _allot(len(names), shares).items():
            split_of.update((next(remaining), split) for _ in range(count))
    return split_of


def _allot(count: int, shares: Mapping[str, float]) -> dict[str, int]:
    """``count`` things shared out by largest remainder, none left empty where there are enough."""
    allotted = {split: int(share * count) for split, share in shares.items()}
    by_remainder = sorted(shares, key=lambda split: allotted[split] - shares[split] * count)
    for split in by_remainder[: count - sum(allotted.values())]:
        allotted[split] += 1
    if count >= len(shares):
        for split in shares:
            if not allotted[split]:
                allotted[max(allotted, key=lambda other: allotted[other])] -= 1
                allotted[split] = 1
    return allotted
