"""The cache of ranges: right bytes or none, never over its limit, whatever else goes on."""

import errno
import logging
import os
import random
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.range_cache import RangeCache, entry_name

_SIZE = 1000


def name(number: int) -> str:
    return entry_name("s3://bucket", "shard.tar", number * _SIZE, _SIZE)


def data(number: int) -> bytes:
    return random.Random(number).randbytes(_SIZE)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "used"]


def used_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in files(folder))


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_range_is_served_as_it_was_put(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 100 * _SIZE)
    cache.put(name(1), data(1))
    cache.put(name(2), b"")

    assert cache.get(name(1)) == data(1)
    assert cache.get(name(2)) == b""
    assert cache.get(name(3)) is None


def test_the_names_of_different_ranges_differ() -> None:
    names = {
        entry_name(root, key, start, length)
        for root in ("s3://a", "s3://b")
        for key in ("x", "y")
        for start in (1, 11)
        for length in (1, 11, 111)
    }

    assert len(names) == 24


def _truncate(content: bytes) -> bytes:
    return content[:-1]


def _flip(content: bytes) -> bytes:
    return content[:-7] + bytes([content[-7] ^ 1]) + content[-6:]


def _flip_header(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


def _zero(content: bytes) -> bytes:
    return bytes(len(content))


def _empty(content: bytes) -> bytes:
    return b""


def _lengthen(content: bytes) -> bytes:
    return content + b"more"


@pytest.mark.parametrize("damage", [_truncate, _flip, _flip_header, _zero, _empty, _lengthen])
def test_a_damaged_entry_is_dropped_and_can_be_put_again(tmp_path: Path, damage: object) -> None:
    cache = RangeCache(tmp_path, 100 * _SIZE)
    cache.put(name(1), data(1))
    [path] = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))

    assert cache.get(name(1)) is None
    assert not path.exists()
    cache.put(name(1), data(1))
    assert cache.get(name(1)) == data(1)


def test_an_entry_under_the_name_of_another_is_not_served(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 100 * _SIZE)
    cache.put(name(1), data(1))
    [first] = files(tmp_path)
    cache.put(name(2), data(2))
    [second] = set(files(tmp_path)) - {first}
    first.replace(second)

    assert cache.get(name(2)) is None


def test_the_longest_unused_go_first_and_a_tenth_is_freed(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 21 * _SIZE)
    for number in range(20):
        cache.put(name(number), data(number))
        [path] = (path for path in files(tmp_path) if path.stat().st_mtime > time.time() - 50)
        age(path, 1000 - number)
    assert cache.get(name(0)) == data(0)  # used again: now the newest of all

    cache.put(name(20), data(20))
    cache.put(name(21), data(21))

    held = [number for number in range(22) if cache.get(name(number)) is not None]
    assert held == [0, *range(4, 22)]


def test_a_use_is_written_down_once_a_minute(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 100 * _SIZE)
    cache.put(name(1), data(1))
    [path] = files(tmp_path)

    age(path, 30)
    before = path.stat().st_mtime
    cache.get(name(1))
    assert path.stat().st_mtime == before

    age(path, 90)
    cache.get(name(1))
    assert path.stat().st_mtime > time.time() - 10


def test_an_entry_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, _SIZE)
    cache.put(name(1), data(1))

    assert cache.get(name(1)) is None
    assert used_bytes(tmp_path) == 0


def test_what_is_just_being_written_is_counted_and_stays(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 10 * _SIZE)
    cache.put(name(0), data(0))
    being_written = files(tmp_path)[0].with_name(".0123.tmp")
    being_written.write_bytes(bytes(5 * _SIZE))
    (tmp_path / "used").unlink()
    for number in range(1, 20):
        cache.put(name(number), data(number))
        assert used_bytes(tmp_path) <= 10 * _SIZE

    assert being_written.exists()


def test_what_a_killed_process_was_writing_is_removed_later(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 10 * _SIZE)
    cache.put(name(0), data(0))
    lost = files(tmp_path)[0].with_name(".0123.tmp")
    lost.write_bytes(bytes(5 * _SIZE))
    age(lost, 7200)
    for number in range(1, 10):
        cache.put(name(number), data(number))

    assert not lost.exists()
    assert cache.get(name(9)) == data(9)


@pytest.mark.parametrize("count", [b"", b"garbage", b"-0000000000000000001"])
def test_a_count_that_got_lost_is_taken_again(tmp_path: Path, count: bytes) -> None:
    cache = RangeCache(tmp_path, 10 * _SIZE)
    for number in range(9):
        cache.put(name(number), data(number))
    (tmp_path / "used").write_bytes(count)
    for number in range(9, 12):
        cache.put(name(number), data(number))

    assert used_bytes(tmp_path) <= 10 * _SIZE
    assert cache.get(name(11)) == data(11)


def test_nobody_waits_for_a_process_that_makes_room(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 10 * _SIZE)
    cache.put(name(0), data(0))
    with cache._locked_count():
        begin = time.monotonic()
        cache.put(name(1), data(1))
        assert cache.get(name(0)) == data(0)
        assert time.monotonic() - begin < 1

    assert cache.get(name(1)) is None
    cache.put(name(1), data(1))
    assert cache.get(name(1)) == data(1)


def test_a_process_forked_while_the_cache_is_locked_does_not_keep_it_locked(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 10 * _SIZE)
    cache.put(name(0), data(0))
    with cache._locked_count():
        child = get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()

    cache.put(name(1), data(1))
    child.kill()
    child.join()

    assert cache.get(name(1)) == data(1)


def test_a_full_disk_is_told_once_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = RangeCache(tmp_path, 10 * _SIZE)
    cache.put(name(0), data(0))

    def fail(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with caplog.at_level(logging.WARNING):
        cache.put(name(1), data(1))
        cache.put(name(2), data(2))

    assert [record.getMessage() for record in caplog.records] == [
        f"the cache of ranges in {tmp_path} keeps nothing more: [Errno 28] No space left on device"
    ]
    assert len(files(tmp_path)) == 1
    assert cache.get(name(0)) == data(0)


def test_a_folder_that_cannot_be_made_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = RangeCache(tmp_path / "file" / "cache", 10 * _SIZE)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            assert cache.get(name(number)) is None
            cache.put(name(number), data(number))

    assert len(caplog.records) == 1


def _hammer(folder: Path, limit: int, seed: int, turns: int) -> None:
    """Takes and puts at random; ends with status 1 at the first wrong byte."""
    draws, cache, hits = random.Random(seed), RangeCache(folder, limit), 0
    for _ in range(turns):
        number = min(int(draws.expovariate(0.1)), 99)
        found = cache.get(name(number))
        if found is None:
            cache.put(name(number), data(number))
        elif found != data(number):
            os._exit(1)
        hits += found is not None
    os._exit(0 if hits else 2)


def test_many_processes_share_a_small_cache_while_some_are_killed(tmp_path: Path) -> None:
    limit = 15 * _SIZE
    context = get_context("fork")
    processes = [
        context.Process(target=_hammer, args=(tmp_path, limit, seed, turns))
        for seed, turns in enumerate([10**9, 10**9, 200, 200, 200, 200])
    ]
    for process in processes:
        process.start()
    largest = 0
    for victim in processes[:2]:
        for _ in range(20):
            time.sleep(0.02)
            largest = max(largest, _size_during_changes(tmp_path))
        os.kill(victim.pid or 0, signal.SIGKILL)
    for process in processes:
        process.join(20)

    assert [process.exitcode for process in processes] == [-9, -9, 0, 0, 0, 0]
    assert largest <= limit + len(processes) * (_SIZE + 50)
    assert used_bytes(tmp_path) <= limit


def _size_during_changes(folder: Path) -> int:
    """May count a file under two names, or one that is gone by now."""
    sizes = []
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size if path.is_file() else 0)
        except FileNotFoundError:
            continue
    return sum(sizes)
