"""Clips are the same from the store and from memory; what cannot be read is named."""

import gc
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sigma_pipeline.data_prep.augment import Crop, whole_frame
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.data_prep.ranges import RangeReader
from sigma_pipeline.data_prep.verdicts import BadSample
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage

Split = tuple[Storage, Index]
MakeSplit = Callable[..., Split]
WANTED = np.array([3, 5, 7, 7])
WHOLE = [whole_frame(48, 64)]
CROPS = [Crop(0, 8, 48, 48), Crop(4, 6, 30, 40, is_flipped=True), whole_frame(48, 64)]
VIDEO_GIB = 12 * 48 * 64 * 1.5 / (1 << 30)


class CountingRanges(RangeReader):
    """Notes what is read and what is announced."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self.reads: list[tuple[str, int, int]] = []
        self.announced: list[tuple[str, int, int]] = []

    def read(self, key: str, start: int, length: int) -> bytes:
        """Notes, and reads."""
        self.reads.append((key, start, length))
        return super().read(key, start, length)

    def prefetch(self, ranges: Sequence[tuple[str, int, int]]) -> None:
        """Just notes."""
        self.announced += ranges


def with_rows(index: Index, **changes: object) -> Index:
    rows = [replace(row, **changes) for row in index.rows]  # type: ignore[arg-type]
    return Index(index.ref, index.classes, index.root_hash, rows)


def test_the_wanted_frames_of_the_wanted_sample_come_out(coloured_split: Split) -> None:
    (clip,) = FrameReader(*coloured_split).clips(9, WANTED, WHOLE, 32).double()

    assert clip.shape == (3, 4, 32, 32)
    assert (clip[0] - 16 * 9).abs().max() < 8
    assert np.abs(clip[1, :, 16, 16].numpy() - 20 * WANTED).max() < 8


def test_each_crop_gives_a_clip_of_its_own(coloured_split: Split) -> None:
    reader = FrameReader(*coloured_split)

    clips = reader.clips(9, WANTED, CROPS, 32)

    for crop, clip in zip(CROPS, clips, strict=True):
        assert torch.equal(reader.clips(9, WANTED, [crop], 32)[0], clip)
    assert not torch.equal(clips[0], clips[2])


def test_a_part_of_a_batch_is_filled_in_place(coloured_split: Split) -> None:
    reader = FrameReader(*coloured_split)
    batch = torch.zeros(6, 3, 4, 32, 32, dtype=torch.uint8)

    returned = reader.clips(9, WANTED, CROPS, 32, batch[2:5])

    assert returned.data_ptr() == batch[2].data_ptr()
    assert torch.equal(batch[2:5], reader.clips(9, WANTED, CROPS, 32))
    assert not batch[:2].any()
    assert not batch[5].any()


def test_size_and_length_are_known_without_a_read(coloured_split: Split) -> None:
    storage, index = coloured_split
    storage.delete(f"{index.ref.prefix}/shard-000000.a.tar")
    reader = FrameReader(storage, index)

    assert reader.num_frames(3) == 12
    assert reader.size(3) == (48, 64)


def test_samples_of_a_pool_are_numbered_through(coloured_split: Split) -> None:
    storage, index = coloured_split
    reader = FrameReader(storage, Pool([index, index]))

    assert torch.equal(reader.clips(13 + 9, WANTED, CROPS, 32), reader.clips(9, WANTED, CROPS, 32))


def test_frames_of_a_segment_count_from_its_first(coloured_split: Split) -> None:
    storage, index = coloured_split
    segments = with_rows(index, first_frame=3, frames=6)

    clips = FrameReader(storage, segments).clips(9, WANTED - 3, CROPS, 32)

    assert torch.equal(clips, FrameReader(storage, index).clips(9, WANTED, CROPS, 32))


@pytest.mark.parametrize("changes", [{}, {"first_frame": 2, "frames": 9}])
def test_memory_gives_the_same_clips_as_the_store(
    coloured_split: Split, changes: dict[str, int]
) -> None:
    storage, index = coloured_split
    index = with_rows(index, **changes)
    cached = FrameReader(storage, index, cache_gib=1)

    for _ in range(2):
        kept = cached.clips(2, WANTED, CROPS, 32)
        assert torch.equal(kept, FrameReader(storage, index).clips(2, WANTED, CROPS, 32))


@pytest.mark.parametrize(("cache_gib", "reads"), [(1.0, 2), (0.0, 6), (0.9 * VIDEO_GIB, 6)])
def test_a_video_that_fits_in_memory_is_read_once(
    coloured_split: Split, cache_gib: float, reads: int
) -> None:
    storage, index = coloured_split
    ranges = CountingRanges(storage)
    reader = FrameReader(storage, index, cache_gib=cache_gib, ranges=ranges)

    for _ in range(3):
        reader.clips(2, WANTED, WHOLE, 32)
        reader.clips(4, WANTED, WHOLE, 32)

    assert len(ranges.reads) == reads


def test_what_is_announced_is_what_will_be_read(coloured_split: Split) -> None:
    storage, index = coloured_split
    ranges = CountingRanges(storage)
    reader = FrameReader(storage, index, ranges=ranges)

    reader.prefetch([7, 2])
    reader.clips(7, WANTED, WHOLE, 32)
    reader.clips(2, WANTED, WHOLE, 32)

    assert len(ranges.reads) == 2
    assert ranges.reads == ranges.announced


def test_a_reader_can_be_sent_to_another_process(coloured_split: Split) -> None:
    reader = FrameReader(*coloured_split, cache_gib=1)
    clips = reader.clips(2, WANTED, CROPS, 32)

    sent = pickle.loads(pickle.dumps(reader))

    assert torch.equal(sent.clips(2, WANTED, CROPS, 32), clips)


@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_a_broken_sample_is_named(coloured_split: Split, cache_gib: float) -> None:
    storage, index = coloured_split
    damage(storage, index, 3, 0)

    with pytest.raises(BadSample) as broken:
        FrameReader(storage, index, cache_gib=cache_gib).clips(3, WANTED, WHOLE, 32)

    error = pickle.loads(pickle.dumps(broken.value))
    assert (error.key, error.tar, error.source, error.reason) == (
        "clip-3",
        "datasets/colours/train/v1/shard-000000.a.tar",
        "colours/3.mp4",
        broken.value.reason,
    )
    assert str(error).startswith(
        "sample clip-3 in datasets/colours/train/v1/shard-000000.a.tar (source colours/3.mp4) "
        "cannot be read: unreadable: cannot be opened"
    )


def damage(storage: Storage, index: Index, sample: int, first_byte: int) -> None:
    """Overwrites a video from one of its bytes on."""
    key = f"{index.ref.prefix}/shard-000000.a.tar"
    row = index.rows[sample]
    tar = bytearray(storage.read(key))
    tar[row.media_offset + first_byte : row.media_offset + row.media_size] = bytes(
        row.media_size - first_byte
    )
    storage.write(key, bytes(tar))


def test_a_damaged_sample_does_not_stay_in_the_nodes_cache_once_it_is_repaired(
    coloured_split: Split, tmp_path: Path
) -> None:
    storage, index = coloured_split
    key = index.source(0).tar
    whole = storage.read(key)
    ranges = RangeReader(storage, cache_dir=tmp_path / "cache", cache_gib=0.1)
    reader = FrameReader(storage, index, ranges=ranges)
    storage.write(key, bytes(len(whole)))
    with pytest.raises(BadSample):
        reader.clips(0, WANTED, WHOLE, 32)

    storage.write(key, whole)

    assert reader.clips(0, WANTED, WHOLE, 32).double().std() > 0


def test_a_missing_shard_makes_its_samples_bad(coloured_split: Split) -> None:
    storage, index = coloured_split
    storage.delete(f"{index.ref.prefix}/shard-000000.a.tar")

    with pytest.raises(BadSample, match=r"sample clip-0 in .*cannot be read: .*shard-000000"):
        FrameReader(storage, index).clips(0, WANTED, WHOLE, 32)


def test_a_shard_that_was_cut_short_makes_its_last_samples_bad(coloured_split: Split) -> None:
    storage, index = coloured_split
    key = f"{index.ref.prefix}/shard-000000.a.tar"
    storage.write(key, storage.read(key)[:-10])
    reader = FrameReader(storage, index)

    reader.clips(0, WANTED, WHOLE, 32)
    with pytest.raises(BadSample, match=r"sample clip-12 in .* ends at byte"):
        reader.clips(12, WANTED, WHOLE, 32)


def test_a_store_that_cannot_be_reached_is_no_bad_sample(coloured_split: Split) -> None:
    storage, index = coloured_split

    class Broken(RangeReader):
        def read(self, key: str, start: int, length: int) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(StageError, match=r"shard-000000.a.tar cannot be read: .*Input/output"):
        FrameReader(storage, index, ranges=Broken(storage)).clips(0, WANTED, WHOLE, 32)


@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_frames_that_are_not_there_make_a_sample_bad(
    coloured_split: Split, cache_gib: float
) -> None:
    storage, index = coloured_split
    reader = FrameReader(storage, with_rows(index, frames=20), cache_gib=cache_gib)

    reader.clips(0, WANTED, WHOLE, 32)  # these are
    with pytest.raises(BadSample, match=r"sample clip-0 .*frame 12 does not decode"):
        reader.clips(0, np.array([11, 12]), WHOLE, 32)


@pytest.mark.slow
def test_ten_thousand_clips_leave_memory_as_it_was(coloured_split: Split) -> None:
    reader = FrameReader(*coloured_split)
    draws = np.random.default_rng(0)

    def clips(count: int) -> None:
        for number in range(count):
            top, left = (int(draws.integers(9)) * 2 for _ in range(2))
            reader.clips(number % 13, WANTED, [Crop(top, left, 30, 40, number % 2 == 0)], 32)

    clips(1000)
    before = resident_kib()
    clips(10_000)
    gc.collect()

    assert resident_kib() - before < 4096


def resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4
