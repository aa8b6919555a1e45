"""Samples of a split with all of their classes, for benchmarks where several apply at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt

from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.label_spans import all_labels


@dataclass(frozen=True)
class LabelledVideos:
    """The samples whose classes are known, in the order of their split."""

    keys: Sequence[str]
    labels: Sequence[Sequence[int]]
    """Of each sample its classes, perhaps none."""
    classes: Sequence[str]
    """Names of all."""
    positions: tuple[int, ...] | None = None
    """Of the samples in their split; None: they are all of it."""
    notes: Sequence[str] = ()
    """Remarks on what was left out."""

    @classmethod
    def of(
        cls, index: Index, name: str, positions: tuple[int, ...] | None = None
    ) -> "LabelledVideos":
        """Those of a split.

        Args:
            index: of all the split, or of its samples at ``positions``.
            name: of the split, for people.
            positions: in the whole split; None: all.

        Raises:
            ValueError: there are none.
        """
        labels = [all_labels(row) for row in index.rows]
        known = [each for each in labels if each is not None]
        lacking = len(labels) - len(known)
        if not known:
            raise ValueError(f"the {name} split has no sample whose classes are known")
        is_known = [each is not None for each in labels]
        places = range(len(index)) if positions is None else positions
        is_whole = positions is None and not lacking
        left_out = f"{lacking} of {len(labels)} {name} samples have no labels: left out"
        return cls(
            keys=list(compress((row.key for row in index.rows), is_known)),
            labels=known,
            classes=index.classes,
            positions=None if is_whole else tuple(compress(places, is_known)),
            notes=[left_out] if lacking else [],
        )

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.keys)

    @property
    def multi_hot(self) -> npt.NDArray[np.bool_]:
        """[samples, classes]."""
        marks = np.zeros((len(self.labels), len(self.classes)), dtype=np.bool_)
        for row, labels in zip(marks, self.labels, strict=True):
            row[list(labels)] = True
        return marks
