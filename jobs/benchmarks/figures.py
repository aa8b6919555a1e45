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


Figure = Confusion | Neighbours | Overlay
