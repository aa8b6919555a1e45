"""Clips of samples: read by byte range, decoded as far as needed, cut and resized."""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from sigma_pipeline.data_prep.augment import Crop
from sigma_pipeline.data_prep.convert import Converter, Frames, Picture
from sigma_pipeline.data_prep.decode_clip import pick_frames
from sigma_pipeline.data_prep.decode_still import decode_still
from sigma_pipeline.data_prep.decoded_cache import DecodedCache
from sigma_pipeline.data_prep.hot_columns import ClipSource
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.data_prep.ranges import Range, RangeReader
from sigma_pipeline.data_prep.verdicts import BadSample, Rejected
from sigma_pipeline.infra.errors import StoreUnreachable
from sigma_pipeline.infra.storage import Storage

_GIB = 1 << 30


class FrameReader:
    """Gives clips of samples; may keep whole decoded videos in memory. Picklable.

    What is kept are frames as they were decoded, so that a clip is the same from memory as from the
    store.
    """

    def __init__(
        self,
        storage: Storage,
        pool: Pool | Index,
        *,
        cache_gib: float = 0.0,
        ranges: RangeReader | None = None,
    ) -> None:
        """Reads nothing yet.

        Args:
            storage: holds the shards.
            pool: the samples; a single index numbers them by its rows.
            cache_gib: memory for decoded videos; those that do not fit are decoded each time.
            ranges: how bytes are read; plainly, when absent.
        """
        self._pool = pool if isinstance(pool, Pool) else Pool([pool])
        self._ranges = ranges or RangeReader(storage)
        self._cache = DecodedCache(int(cache_gib * _GIB))
        self._converter = Converter()
        self._last_read: Range | None = None

    def num_frames(self, sample: int) -> int:
        """Frames that clips of ``sample`` can be made of."""
        return self._pool.source(sample).frames

    def size(self, sample: int) -> tuple[int, int]:
        """Height and width of the upright frames of ``sample``; nothing is decoded."""
        source = self._pool.source(sample)
        return source.height, source.width

    def prefetch(self, samples: Sequence[int]) -> None:
        """Begins to read what clips of ``samples`` will need, in this order."""
        sources = (self._pool.source(sample) for sample in samples if sample not in self._cache)
        # Of a folder of frames, just the wanted ones are read, and these are not known yet.
        self._ranges.prefetch(
            [(s.tar, s.media_offset, s.media_size) for s in sources if s.media != "frames"]
        )

    def clips(
        self,
        sample: int,
        wanted: NDArray[np.int64],
        crops: Sequence[Crop],
        frame_size_px: int | tuple[int, int],
        out: UInt8[Tensor, "clips 3 frames height width"] | None = None,
    ) -> UInt8[Tensor, "clips 3 frames height width"]:
        """One clip for each of ``crops``, of the same frames, each of which is decoded once.

        Args:
            sample: its number in the pool.
            wanted: numbers of the clip's frames, counted from the sample's first; may repeat.
            crops: of the upright frame, in pixels.
            frame_size_px: side of the square that each crop is resized to, or height and width.
            out: is filled and returned, when given; may be a part of a batch.

        Raises:
            BadSample: the sample is damaged or not there.
            StoreUnreachable: the store cannot be reached.
        """
        source = self._pool.source(sample)
        numbers = (wanted + source.first_frame).tolist()
        picture = Picture(source.height, source.width, source.rotation)
        if out is None:
            size = frame_size_px
            height, width = (size, size) if isinstance(size, int) else size
            out = torch.empty(len(crops), 3, len(numbers), height, width, dtype=torch.uint8)
        try:
            frames = self._frames(sample, source, set(numbers))
            for clip, crop in zip(out, crops, strict=True):
                self._converter.fill(clip, frames, numbers, picture=picture, crop=crop)
        except (Rejected, FileNotFoundError, EOFError) as error:
            if self._last_read:
                self._ranges.forget(*self._last_read)
            raise self._bad_sample(sample, str(error)) from error
        except OSError as error:
            raise StoreUnreachable(f"{source.tar} cannot be read: {error}") from error
        return out

    def _frames(self, sample: int, source: ClipSource, numbers: Collection[int]) -> Frames:
        if _likely_bytes(source) <= self._cache.limit_bytes:
            all_numbers = range(source.first_frame, source.first_frame + source.frames)
            try:
                return self._cache.get(sample, lambda: self._decode(sample, source, all_numbers))
            except Rejected:
                # Without a cache, damage elsewhere in the video would not be noticed either.
                return self._decode(sample, source, numbers)
        return self._decode(sample, source, numbers)

    def _decode(self, sample: int, source: ClipSource, numbers: Collection[int]) -> Frames:
        if source.media == "frames":
            return self._stills(sample, source, sorted(numbers))
        data = self._read(source.tar, source.media_offset, source.media_size)
        if source.media == "image":
            return dict.fromkeys(numbers, decode_still(data))
        return pick_frames(
            data, numbers, keyframes=source.keyframes, keyframe_pts=source.keyframe_pts
        )

    def _stills(self, sample: int, source: ClipSource, numbers: Sequence[int]) -> Frames:
        """Frames that are files of their own, by one read from the first to the last of them."""
        index, place = self._pool.locate(sample)
        files = index.frame_files(place)
        start = files[numbers[0]][0]
        end = sum(files[numbers[-1]])
        data = self._read(source.tar, start, end - start)
        frames = {}
        for number in numbers:
            offset, size = files[number]
            frames[number] = decode_still(data[offset - start : offset - start + size])
        return frames

    def _read(self, key: str, start: int, length: int) -> bytes:
        self._last_read = (key, start, length)
        return self._ranges.read(key, start, length)

    def _bad_sample(self, sample: int, reason: str) -> BadSample:
        index, place = self._pool.locate(sample)
        row = index.row(place)
        return BadSample(row.key, f"{index.ref.prefix}/{row.tar}", row.source, reason)


def decoded_gib(pool: Pool | Index) -> float:
    """Memory that all videos take when they are decoded, if colours have half the resolution."""
    return sum(_likely_bytes(pool.source(sample)) for sample in range(len(pool))) / _GIB


def _likely_bytes(source: ClipSource) -> int:
    return source.frames * source.height * source.width * 3 // 2
