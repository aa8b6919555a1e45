"""Frames come out the same from the store and from memory, or as an error that names them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from sigma_pipeline.data_prep.frames import DecodedCache, FrameReader
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage

Split = tuple[Storage, Index]
WANTED = np.array([3, 5, 7, 7])
VIDEO_GIB = 12 * 48 * 64 * 3 / (1 << 30)


class CountingIndex(Index):
    """An index that counts the videos read through it."""

    videos_read = 0

    def read_video(self, storage: Storage, i: int) -> bytes:
        """Counts, and reads."""
        self.videos_read += 1
        return super().read_video(storage, i)


def counting(index: Index) -> CountingIndex:
    return CountingIndex(index.ref, index.classes, index.root_hash, index.rows)


def video_of(megabytes: int) -> Callable[[], NDArray[np.uint8]]:
    return lambda: np.zeros((megabytes, 1 << 20), dtype=np.uint8)


def refuse() -> NDArray[np.uint8]:
    raise AssertionError("decoded again")


def test_the_wanted_frames_of_the_wanted_sample_come_out(coloured_split: Split) -> None:
    frames = FrameReader(*coloured_split).frames(9, WANTED)

    assert frames.shape == (4, 48, 64, 3)
    assert np.abs(frames[..., 0].astype(int) - 16 * 9).max() < 8
    assert np.abs(frames[:, 24, 32, 1] - 20.0 * WANTED).max() < 8


def test_memory_gives_the_same_frames_as_the_store(coloured_split: Split) -> None:
    kept = FrameReader(*coloured_split, cache_gib=1).frames(2, WANTED)

    assert np.array_equal(kept, FrameReader(*coloured_split).frames(2, WANTED))


def test_a_video_in_memory_is_read_once(coloured_split: Split) -> None:
    storage, index = coloured_split
    counted = counting(index)
    reader = FrameReader(storage, counted, cache_gib=1)

    for _ in range(3):
        reader.frames(2, WANTED)
        reader.frames(4, WANTED)

    assert counted.videos_read == 2


@pytest.mark.parametrize("cache_gib", [0.0, 0.9 * VIDEO_GIB])
def test_a_video_larger_than_the_cache_is_read_each_time(
    coloured_split: Split, cache_gib: float
) -> None:
    storage, index = coloured_split
    counted = counting(index)
    reader = FrameReader(storage, counted, cache_gib)

    reader.frames(2, WANTED)
    reader.frames(2, WANTED)

    assert counted.videos_read == 2


def test_the_longest_unused_video_makes_room() -> None:
    cache = DecodedCache(limit_bytes=3 << 20)
    cache.get(0, video_of(megabytes=1))
    cache.get(1, video_of(megabytes=1))
    cache.get(0, refuse)

    cache.get(2, video_of(megabytes=2))

    assert cache.used_bytes == 3 << 20
    cache.get(0, refuse)
    with pytest.raises(AssertionError, match="decoded again"):
        cache.get(1, refuse)


def test_a_cache_never_holds_more_than_its_limit() -> None:
    cache = DecodedCache(limit_bytes=3 << 20)

    for sample in range(20):
        cache.get(sample, video_of(megabytes=1 + sample % 4))
        assert cache.used_bytes <= 3 << 20


@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_a_broken_sample_is_named(coloured_split: Split, cache_gib: float) -> None:
    storage, index = coloured_split
    key = f"{index.ref.prefix}/shard-000000.a.tar"
    row = index.rows[3]
    tar = bytearray(storage.read(key))
    tar[row.video_offset : row.video_offset + row.video_size] = bytes(row.video_size)
    storage.write(key, bytes(tar))

    with pytest.raises(StageError) as broken:
        FrameReader(storage, index, cache_gib).frames(3, WANTED)

    assert "sample clip-3 in datasets/colours/train/v1/shard-000000.a.tar" in str(broken.value)
    assert "(source colours/3.mp4) cannot be read" in str(broken.value)


def test_a_missing_shard_is_named(coloured_split: Split) -> None:
    storage, index = coloured_split
    storage.delete(f"{index.ref.prefix}/shard-000000.a.tar")

    with pytest.raises(StageError, match=r"sample clip-0 in .*cannot be read: FileNotFoundError"):
        FrameReader(storage, index).frames(0, WANTED)


@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_a_frame_that_is_not_there_is_an_error(coloured_split: Split, cache_gib: float) -> None:
    storage, index = coloured_split
    index.rows = [replace(row, frames=20) for row in index.rows]

    with pytest.raises(StageError, match="sample clip-0 "):
        FrameReader(storage, index, cache_gib).frames(0, np.array([11, 12]))
