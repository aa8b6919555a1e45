"""What a benchmark is: a named, versioned protocol from features of a dataset to scores.

A benchmark sees arrays only: no store, no encoder, no cluster. Its instance holds its settings, so
that settings are checked when it is built and fingerprinted by ``model_dump``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

VOID_ID = 255
"""Pixels of this object id are in no class and are not scored (DAVIS's convention)."""


@dataclass(frozen=True)
class Score:
    """One number with its unit and a 95% interval over the samples it was taken on."""

    name: str
    value: float
    unit: str
    higher_is_better: bool
    low: float
    high: float
    samples: int


@dataclass(frozen=True)
class Needs:
    """What a benchmark asks of a dataset and of the encoder."""

    train: bool = False
    """Reads the training split too."""
    labels: bool = False
    groups: bool = False
    """Reads one split, as train and as test, whose samples say what group they belong to."""
    masks: bool = False
    tokens: bool = False
    """Reads per-token features of the test split, not only one vector per clip."""


@dataclass(frozen=True)
class FeatureSet:
    """What a frozen encoder says about one split, sample by sample, in the order of its index."""

    keys: Sequence[str]
    groups: Sequence[str | None]
    """What samples of one origin (performer, scene, source video) have in common."""
    labels: npt.NDArray[np.int64]
    """[samples]; -1: none."""
    num_classes: int
    pooled: npt.NDArray[np.float32]
    """[samples, dim]."""
    tokens: npt.NDArray[np.float16] | None = None
    """[samples, slices, rows, columns, dim]."""
    masks: npt.NDArray[np.uint8] | None = None
    """[samples, frames, height, width]: object ids, 0 background, ``VOID_ID`` not annotated."""

    @property
    def num_samples(self) -> int:
        """Samples of the split."""
        return len(self.keys)

    def part(self, is_part: npt.NDArray[np.bool_]) -> "FeatureSet":
        """The samples that ``is_part`` [samples] marks; tokens and masks are left behind."""
        kept = np.flatnonzero(is_part)
        return replace(
            self,
            keys=[self.keys[i] for i in kept.tolist()],
            groups=[self.groups[i] for i in kept.tolist()],
            labels=self.labels[kept],
            pooled=self.pooled[kept],
            tokens=None,
            masks=None,
        )


@dataclass(frozen=True)
class Result:
    """Scores of one cell, the outcome of each sample they rest on, and remarks for the reader."""

    scores: tuple[Score, ...]
    outcomes: Mapping[str, Sequence[Any]]
    """Columns of equal length, one row per scored sample; ``key`` is always among them."""
    notes: tuple[str, ...] = ()


class Benchmark(Protocol):
    """A protocol with its settings (a frozen pydantic model)."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised whenever equal features would no longer give equal scores."""

    @property
    def needs(self) -> Needs:
        """What these settings ask for."""
        ...

    def scores(self, train: FeatureSet | None, test: FeatureSet, seed: int) -> Result:
        """Scores ``test``; ``train`` is given when, and only when, ``needs.train``.

        Raises:
            ValueError: the data cannot carry this protocol (no labelled sample, for example).
        """
        ...

    def model_dump(self) -> dict[str, Any]:
        """The settings, for fingerprints and receipts."""
        ...
