"""What a benchmark has to show, as plain data: whoever has the videos draws it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Confusion:
    """Which class was taken for which."""

    labels: Sequence[int]
    predictions: Sequence[int]


@dataclass(frozen=True)
class ClassBars:
    """One number of each class, such as its share of right answers."""

    classes: Sequence[int]
    """Their labels."""
    values: Sequence[float]
    """From 0 to 1."""
    samples: Sequence[int]
    """Of the test split, that each rests on."""
    title: str
    """What the numbers are, in a few words: ``top-1 by class``."""


@dataclass(frozen=True)
class Neighbours:
    """Test samples and the training samples that are most like them."""

    queries: Sequence[str]
    """Keys of the test split."""
    neighbours: Sequence[Sequence[str]]
    """[queries, neighbours] keys of the training split, the most similar first."""
    similarity: Sequence[Sequence[float]]
    """[queries, neighbours] cosines."""


@dataclass(frozen=True)
class Overlay:
    """Objects found in a test sample."""

    key: str
    title: str
    """Which result it is, as a file name: ``hungarian``."""
    frames: Sequence[int]
    """Numbers of the sample's frames."""
    objects: npt.NDArray[np.uint8]
    """[frames, height, width] object ids, 0 background; of the whole frame if its sides are as the
    frame's, else of the square that the view cuts."""
    is_whole_frame: bool


@dataclass(frozen=True)
class Counts:
    """How often something was said to happen in each video, against how often it does."""

    true: Sequence[int]
    predicted: Sequence[int]


@dataclass(frozen=True)
class SelfSimilarity:
    """How alike the moments of one video are, and the cycles that it has."""

    key: str
    similarity: npt.NDArray[np.float32]
    """[moments, moments] cosines; moments are spread evenly over the part that is shown."""
    first: int
    """Frame of the sample with which that part begins."""
    boundaries: npt.NDArray[np.float64]
    """Frames from ``first`` on, between which the cycles lie; the last ends the part."""
    found_boundaries: npt.NDArray[np.float64]
    """The same as a benchmark has found them."""
    count: int
    """Of cycles, as that counts."""


Figure = Confusion | ClassBars | Neighbours | Overlay | Counts | SelfSimilarity
