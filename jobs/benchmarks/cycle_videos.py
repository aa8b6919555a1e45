"""The videos of a split whose cycles are marked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from sigma_pipeline.data_prep.annotations import cycle_boundaries
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.jobs.benchmarks.cycles import Cycles, Floats


@dataclass(frozen=True)
class MarkedVideos:
    """Some samples of a split, one after another in its order."""

    positions: tuple[int, ...]
    """In the whole split."""
    keys: tuple[str, ...]
    cycles: tuple[Cycles, ...]
    notes: tuple[str, ...]
    """What there is to say of the others."""

    @classmethod
    def of(
        cls,
        index: Index,
        use: Literal["train", "test"],
        positions: Sequence[int] | None = None,
    ) -> Self:
        """All that can be scored, or that say at any frame how long a cycle is.

        Args:
            index: of the split, or of its samples at ``positions``.
            use: what it is for.
            positions: in the whole split; None: all.

        Raises:
            ValueError: there are none.
        """
        cycles = marked_cycles(index)
        is_learned = use == "train"
        kept = {
            row: each
            for row, each in enumerate(cycles)
            if each is not None and not (is_learned and not len(known_positions(each)))
        }
        lacking = len(cycles) - len(kept)
        what = "no two marked cycles of like length" if is_learned else "no cycles marked"
        if not kept:
            raise ValueError(f"all {len(cycles)} {use} samples have {what}")
        places = range(len(cycles)) if positions is None else positions
        return cls(
            positions=tuple(places[row] for row in kept),
            keys=tuple(index.row(row).key for row in kept),
            cycles=tuple(kept.values()),
            notes=(f"{lacking} of {len(cycles)} {use} samples have {what}: left out",)
            if lacking
            else (),
        )

    @property
    def counts(self) -> list[int]:
        """Cycles of each."""
        return [each.count for each in self.cycles]


def marked_cycles(index: Index) -> list[Cycles | None]:
    """Of each sample of a split; None where none are marked."""
    marked = map(cycle_boundaries, index.annotations())
    return [None if boundaries is None else Cycles(boundaries) for boundaries in marked]


def known_positions(cycles: Cycles) -> Floats:
    """Frames at which the length of the previous or of the next cycle is known."""
    positions = np.arange(cycles.num_frames, dtype=np.float64)
    return positions[~np.isnan(cycles.lengths(positions)).all(axis=1)]
