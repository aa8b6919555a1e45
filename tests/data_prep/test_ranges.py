"""Ranges come whole and in any order, ahead of time where asked for, and each is read once."""

import gc
import os
import pickle
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.ranges import RangeReader
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import LocalStorage

_OBJECT = os.urandom(1 << 16)


class RemoteStorage:
    """A folder that looks remote, with a latency; writes down what is read of it."""

    root_uri = "s3://bucket/prefix"

    def __init__(self, folder: Path) -> None:
        self.folder = LocalStorage(str(folder))
        self.folder.write("shard.tar", _OBJECT)
        self.reads: list[tuple[int, int]] = []
        self.latency_s = 0.0
        self.meeting: threading.Barrier | None = None
        """Where reads wait for so many of them to be under way at once."""
        self.error: Exception | None = None

    def uri(self, key: str) -> str:
        """See ``Storage``."""
        return f"{self.root_uri}/{key}"

    def read(self, key: str, start: int, length: int) -> bytes:
        """See ``Storage``."""
        time.sleep(self.latency_s)
        if self.meeting is not None:
            self.meeting.wait(10)
        self.reads.append((start, length))
        if self.error:
            raise self.error
        return self.folder.read(key, start, length)


@pytest.fixture
def remote(tmp_path: Path) -> RemoteStorage:
    return RemoteStorage(tmp_path / "store")


def slices(count: int, length: int = 100) -> list[tuple[str, int, int]]:
    return [("shard.tar", start * length, length) for start in range(count)]


def expected(wanted: tuple[str, int, int]) -> bytes:
    return _OBJECT[wanted[1] : wanted[1] + wanted[2]]


def wait_for_reads(remote: RemoteStorage, count: int) -> None:
    deadline = time.monotonic() + 5
    while len(remote.reads) < count and time.monotonic() < deadline:
        time.sleep(0.001)


def test_announced_ranges_are_read_once_each_and_come_in_any_order(remote: RemoteStorage) -> None:
    reader = RangeReader(remote)
    ranges = slices(20)
    reader.prefetch(ranges)

    assert [reader.read(*wanted) for wanted in reversed(ranges)] == [*map(expected, ranges[::-1])]
    assert sorted(remote.reads) == [wanted[1:] for wanted in ranges]


def test_latency_of_announced_ranges_overlaps(remote: RemoteStorage) -> None:
    remote.meeting = threading.Barrier(4)
    reader = RangeReader(remote, threads=8)
    reader.prefetch(slices(16))

    assert [reader.read(*wanted) for wanted in slices(16)] == [*map(expected, slices(16))]


def test_a_range_that_no_thread_has_got_to_is_read_at_once(remote: RemoteStorage) -> None:
    remote.latency_s = 0.1
    reader = RangeReader(remote, threads=1)
    ranges = slices(50)
    reader.prefetch(ranges)
    begin = time.monotonic()

    assert reader.read(*ranges[-1]) == expected(ranges[-1])
    assert time.monotonic() - begin < 1


def test_a_range_is_taken_once_and_read_again_when_wanted_again(remote: RemoteStorage) -> None:
    reader = RangeReader(remote)
    [wanted] = slices(1)
    reader.prefetch([wanted, wanted])

    assert reader.read(*wanted) == reader.read(*wanted) == expected(wanted)
    assert len(remote.reads) == 2


def test_no_more_is_begun_than_fits_in_memory(remote: RemoteStorage) -> None:
    reader = RangeReader(remote, ahead_bytes=350)
    ranges = slices(6)
    reader.prefetch(ranges)
    wait_for_reads(remote, 3)
    time.sleep(0.02)
    assert sorted(remote.reads) == [wanted[1:] for wanted in ranges[:3]]

    reader.read(*ranges[1])
    wait_for_reads(remote, 4)

    assert remote.reads[3] == ranges[3][1:]


def test_a_range_larger_than_the_memory_is_still_read_ahead(remote: RemoteStorage) -> None:
    reader = RangeReader(remote, ahead_bytes=10)
    reader.prefetch(slices(1))
    wait_for_reads(remote, 1)

    assert reader.read(*slices(1)[0]) == expected(slices(1)[0])
    assert len(remote.reads) == 1


@pytest.mark.parametrize("forsaken", [1, 2, 3])
def test_announced_ranges_that_nobody_takes_do_not_keep_the_memory(
    remote: RemoteStorage, forsaken: int
) -> None:
    reader = RangeReader(remote, ahead_bytes=300)
    ranges = slices(400)
    reader.prefetch(ranges[:forsaken])
    for wanted in ranges[3:]:
        reader.prefetch([wanted])
        assert reader.read(*wanted) == expected(wanted)

    remote.reads.clear()
    reader.prefetch(ranges[3:6])
    wait_for_reads(remote, 3)

    assert len(remote.reads) == 3


def test_an_object_that_ends_early_is_an_error_and_never_short_data(remote: RemoteStorage) -> None:
    reader = RangeReader(remote)
    beyond = ("shard.tar", len(_OBJECT) - 10, 20)
    reader.prefetch([beyond])

    for _ in ("announced", "direct"):
        with pytest.raises(EOFError, match=r"s3://bucket/prefix/shard\.tar ends at byte 65536"):
            reader.read(*beyond)


def test_what_goes_wrong_ahead_of_time_is_raised_by_the_read(remote: RemoteStorage) -> None:
    remote.error = StageError("the store is silent")
    reader = RangeReader(remote)
    reader.prefetch(slices(1))
    wait_for_reads(remote, 1)

    with pytest.raises(StageError, match="the store is silent"):
        reader.read(*slices(1)[0])
    remote.error = None
    assert reader.read(*slices(1)[0]) == expected(slices(1)[0])


def test_an_absent_object_is_named(tmp_path: Path) -> None:
    reader = RangeReader(LocalStorage(str(tmp_path)))

    with pytest.raises(FileNotFoundError, match="absent"):
        reader.read("absent", 0, 1)


def test_a_local_folder_without_a_cache_needs_no_threads(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    storage.write("shard.tar", _OBJECT)
    reader = RangeReader(storage)
    before = threading.active_count()
    reader.prefetch(slices(5))

    assert reader.read(*slices(5)[3]) == expected(slices(5)[3])
    assert threading.active_count() == before


def test_what_was_read_is_taken_from_the_cache_by_other_readers(
    remote: RemoteStorage, tmp_path: Path
) -> None:
    for _ in range(3):
        reader = RangeReader(remote, cache_dir=tmp_path / "cache", cache_gib=0.001)
        reader.prefetch(slices(5)[:2])
        assert [reader.read(*wanted) for wanted in slices(5)] == [*map(expected, slices(5))]

    assert len(remote.reads) == 5


def test_threads_go_with_their_reader(remote: RemoteStorage) -> None:
    before = set(threading.enumerate())
    reader = RangeReader(remote, threads=3)
    reader.prefetch(slices(2))
    threads = set(threading.enumerate()) - before
    assert len(threads) == 3

    del reader
    gc.collect()
    for thread in threads:
        thread.join(5)

    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_reader_in_use_works_in_another_process(tmp_path: Path, method: str) -> None:
    storage = LocalStorage(str(tmp_path))
    storage.write("shard.tar", _OBJECT)
    reader = RangeReader(storage, cache_dir=tmp_path / "cache", cache_gib=0.001)
    first, *others = slices(8)
    reader.prefetch([first, *others])
    reader.read(*first)

    with ProcessPoolExecutor(1, get_context(method)) as pool:
        found = [pool.submit(reader.read, *wanted).result(timeout=20) for wanted in others]

    assert found == [*map(expected, others)]


def test_a_process_ends_though_a_read_hangs(remote: RemoteStorage) -> None:
    remote.latency_s = 3600
    process = get_context("fork").Process(target=RangeReader(remote).prefetch, args=(slices(8),))
    process.start()
    process.join(5)

    assert process.exitcode == 0


def test_a_copy_holds_nothing_of_what_was_read_ahead(remote: RemoteStorage) -> None:
    reader = RangeReader(remote)
    reader.prefetch(slices(1, length=60000))
    wait_for_reads(remote, 1)

    assert len(pickle.dumps(reader)) < 2000
