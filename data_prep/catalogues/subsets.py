"""Fixed draws of a few samples per class, as low-shot benchmarks use them (protocols 5.1)."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from sigma_pipeline.data_prep.config import SubsetConfig
from sigma_pipeline.infra.errors import ConfigError

log = logging.getLogger(__name__)


class Labelled(Protocol):
    """An item, or what a list says of one."""

    @property
    def split(self) -> str:
        """The split it belongs to."""

    @property
    def label(self) -> int | None:
        """Its class."""


Thing = TypeVar("Thing", bound=Labelled)


def draw_subset(labels: Sequence[int], samples: int, seed: int) -> list[int]:
    """Which samples of a split make its subset: their positions, ascending.

    Each class that occurs gives ``samples`` divided by the number of such classes, rounded up, or
    all it has. Which ones depends on nothing but their order and ``seed``.
    """
    positions_of: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(labels):
        positions_of[label].append(position)
    chosen: list[int] = []
    for positions in positions_of.values():
        wanted = min(-(-samples // len(positions_of)), len(positions))
        drawn = np.random.RandomState(seed).choice(len(positions), wanted, replace=False)
        chosen += [positions[place] for place in drawn]
    return sorted(chosen)


def draw_examples(labels: Sequence[int], samples: int, seed: int) -> list[int]:
    """Which samples are learned from few: SEVERE's draw with seed 0, another one with each other.

    It is SEVERE's as long as samples of a class stand in the order of its lists, as they do by
    name, and none is missing.

    Args:
        labels: of a split, below 0 where a sample has none; those are never drawn.
        samples: wanted in all.
        seed: of a cell.

    Returns:
        Their positions, ascending.
    """
    labelled = [place for place, label in enumerate(labels) if label >= 0]
    severe = int(SubsetConfig.model_fields["seed"].default)
    drawn = draw_subset([labels[place] for place in labelled], samples, severe + seed)
    return [labelled[place] for place in drawn]


def keep_subset(things: Sequence[Thing], subset: SubsetConfig | None) -> list[Thing]:
    """``things`` without those of the subset's split that were not drawn, in their order.

    Raises:
        ConfigError: one of that split has no class.
    """
    if subset is None:
        return list(things)
    candidates = [place for place, thing in enumerate(things) if thing.split == subset.split]
    labels = [label for place in candidates if (label := things[place].label) is not None]
    if len(labels) < len(candidates):
        raise ConfigError(
            f"subset: {len(candidates) - len(labels)} samples of split '{subset.split}' have no "
            "class to draw from; leave the dataset's subset away"
        )
    kept = {candidates[place] for place in draw_subset(labels, subset.samples, subset.seed)}
    log.info(
        "subset of %s: %d of %d samples, %d classes, seed %d",
        subset.split,
        len(kept),
        len(candidates),
        len(set(labels)),
        subset.seed,
    )
    return [
        thing for place, thing in enumerate(things) if thing.split != subset.split or place in kept
    ]
