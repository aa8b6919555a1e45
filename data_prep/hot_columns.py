"""What planning and reading a clip needs of every sample, packed so that millions fit a node.

Whole numbers take the narrowest type that holds the column; what repeats (tar, suffix, frame rate)
is a number into the list of its values. Keyframes take the most room of all, so those of a constant
distance and a constant step of time, as transcoded videos have, are kept as arithmetic.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sigma_pipeline.data_prep.items import Media

NUMBERS = (
    *("media_offset", "media_size", "frames", "first_frame", "width", "height", "rotation"),
    "frame_grid",
)
REPEATED = ("tar", "media", "suffix", "fps")
RUN = ("keyframe_count", "keyframe_first", "keyframe_step", "pts_first", "pts_step")
LISTED = -1
"""The count of keyframes that follow no arithmetic."""


class ClipSource(NamedTuple):
    """Where a sample's bytes lie and how they decode; fields as in ``rows.SampleRow``."""

    tar: str
    """Key in the store."""
    media: Media
    media_offset: int
    media_size: int
    suffix: str
    frames: int
    first_frame: int
    fps: float
    width: int
    height: int
    rotation: int
    keyframes: Sequence[int]
    keyframe_pts: Sequence[int]
    frame_grid: int
    label: int
    """-1 where there is none."""


class HotColumns:
    """``ClipSource`` by row; over memory that may be a file mapped by all processes of a node."""

    def __init__(self, batch: pa.RecordBatch, prefix: str) -> None:
        """Takes what ``hot_packing.pack`` gave; ``prefix`` is the store folder of the tars."""
        self._codes = {name: batch[name].indices.to_numpy() for name in REPEATED}
        self._values = {name: batch[name].dictionary.to_pylist() for name in REPEATED}
        self._values["tar"] = [f"{prefix}/{tar}" for tar in self._values["tar"]]
        self._numbers = {name: batch[name].to_numpy() for name in (*NUMBERS, *RUN)}
        self._listed = batch["listed_keyframes"]
        self._frame_files = batch["frame_files"]
        self.labels: NDArray[np.int64] = batch["label"].to_numpy()
        """Class number of each sample, shape [samples]; -1 where there is none."""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.labels)

    @property
    def samples_per_shard(self) -> NDArray[np.int64]:
        """Shape [shards]: how many there are of each shard that has any, in their order."""
        return np.bincount(self.shards, minlength=len(self._values["tar"]))

    @property
    def shards(self) -> NDArray[np.integer]:
        """Shape [samples]: number of the shard of each, counted from the first that has any."""
        codes: NDArray[np.integer] = self._codes["tar"]
        return codes

    def source(self, i: int) -> ClipSource:
        """What is known of row ``i``."""
        plain: dict[str, Any] = {name: self._numbers[name].item(i) for name in NUMBERS}
        for name in REPEATED:
            plain[name] = self._values[name][self._codes[name].item(i)]
        keyframes, keyframe_pts = self._keyframes(i)
        return ClipSource(
            **plain,
            keyframes=keyframes,
            keyframe_pts=keyframe_pts,
            label=self.labels.item(i),
        )

    def frame_files(self, i: int) -> list[tuple[int, int]]:
        """Offset and size of each frame's file in the tar; none unless the media are frames."""
        files = self._frame_files[i]
        return _pairs(files) if files.is_valid else []

    def part(self, positions: NDArray[np.integer]) -> "ChosenColumns":
        """The columns of these rows, in that order."""
        return ChosenColumns(self, positions)

    def _keyframes(self, i: int) -> tuple[Sequence[int], Sequence[int]]:
        """Frame numbers, and timestamps."""
        count, *runs = (self._numbers[name].item(i) for name in RUN)
        if count == LISTED:
            frames, pts = zip(*_pairs(self._listed[i]), strict=True)
            return frames, pts
        first, step, first_pts, pts_step = runs
        return _run(first, step, count), _run(first_pts, pts_step, count)


class ChosenColumns:
    """``HotColumns`` of some rows: their places among all, whose memory it is."""

    def __init__(self, whole: HotColumns, positions: NDArray[np.integer]) -> None:
        """Takes the columns of all rows, and which of them: shape [rows of the part]."""
        self._whole = whole
        self._positions = positions
        self.labels: NDArray[np.int64] = whole.labels[positions]
        """See ``HotColumns``."""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._positions)

    def __reduce__(self) -> tuple[type["ChosenColumns"], tuple[HotColumns, NDArray[np.integer]]]:
        """Without what is looked up."""
        return type(self), (self._whole, self._positions)

    @property
    def samples_per_shard(self) -> NDArray[np.int64]:
        """See ``HotColumns``; shards in the order in which their first samples come."""
        shards = self._whole.shards[self._positions]
        _, firsts, counts = np.unique(shards, return_index=True, return_counts=True)
        return counts[np.argsort(firsts)]

    def source(self, i: int) -> ClipSource:
        """What is known of row ``i`` of the part."""
        return self._whole.source(self._positions.item(i))

    def frame_files(self, i: int) -> list[tuple[int, int]]:
        """See ``HotColumns``."""
        return self._whole.frame_files(self._positions.item(i))

    def part(self, positions: NDArray[np.integer]) -> "ChosenColumns":
        """The columns of these rows of the part, in that order."""
        return ChosenColumns(self._whole, self._positions[positions])


def _run(first: int, step: int, count: int) -> range:
    return range(first, first + count * step, step)


def _pairs(structs: pa.LargeListScalar) -> list[tuple[int, int]]:
    values = structs.values
    return list(zip(*(field.to_pylist() for field in values.flatten()), strict=True))
