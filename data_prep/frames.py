"""Frames of samples, from the store or from memory."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from sigma_pipeline.data_prep.decode import Rejected, decode_all, decode_frames
from sigma_pipeline.data_prep.index import Index, SampleRow
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage

_GIB = 1 << 30


class FrameReader:
    """Decodes wanted frames of a split's samples; may keep whole decoded videos in memory.

    A sample that cannot be read is an error that names it. It is never replaced by another: what
    a run has seen must follow from its seed alone.
    """

    def __init__(self, storage: Storage, index: Index, cache_gib: float = 0.0) -> None:
        self._storage = storage
        self._index = index
        self._cache = DecodedCache(int(cache_gib * _GIB))

    def num_frames(self, sample: int) -> int:
        """Frames in the video of the sample in row ``sample``."""
        return self._index.rows[sample].frames

    def frames(
        self, sample: int, wanted: NDArray[np.int64]
    ) -> UInt8[np.ndarray, "frames height width 3"]:
        """The frames numbered ``wanted`` (repetitions allowed) of the sample in row ``sample``.

        Raises:
            StageError: the sample cannot be read or decoded.
        """
        row = self._index.rows[sample]
        try:
            if _decoded_bytes(row) <= self._cache.limit_bytes:
                return self._cache.get(sample, lambda: self._decode_all(sample))[wanted]
            return self._decode(sample, wanted)
        except Exception as error:  # whatever one video does, it is named and stops the stage
            kind = "" if isinstance(error, Rejected) else f"{type(error).__name__}: "
            raise StageError(
                f"sample {row.key} in {self._index.ref.prefix}/{row.tar} (source {row.source}) "
                f"cannot be read: {kind}{error}"
            ) from error

    def _decode(self, sample: int, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        row = self._index.rows[sample]
        return decode_frames(
            self._index.read_video(self._storage, sample),
            wanted.tolist(),
            keyframes=row.keyframes,
            keyframe_pts=row.keyframe_pts,
        )

    def _decode_all(self, sample: int) -> NDArray[np.uint8]:
        row = self._index.rows[sample]
        return decode_all(self._index.read_video(self._storage, sample), row.frames)


class DecodedCache:
    """Whole decoded videos, at most ``limit_bytes`` of them; the longest unused go first."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._videos: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def get(self, sample: int, decode: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The video of ``sample``, decoded only when it is not held."""
        video = self._videos.get(sample)
        if video is None:
            video = decode()
            self._videos[sample] = video
            self.used_bytes += video.nbytes
        self._videos.move_to_end(sample)
        while self.used_bytes > self.limit_bytes:
            _, longest_unused = self._videos.popitem(last=False)
            self.used_bytes -= longest_unused.nbytes
        return video


def decoded_gib(index: Index) -> float:
    """Memory that all videos of a split take when they are decoded."""
    return sum(map(_decoded_bytes, index.rows)) / _GIB


def _decoded_bytes(row: SampleRow) -> int:
    return row.frames * row.height * row.width * 3
