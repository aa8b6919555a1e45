"""What every kind of store promises, and how the local one keeps it through faults."""

import errno
import math
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.storage import (
    LocalStorage,
    Storage,
    is_local,
    open_storage,
    read_json,
    write_json,
    write_json_if_absent,
)

_BAD_KEYS = ["", "/a", "a/", "a//b", "..", "a/../b", "./a", ".a", "a/.b", "a\\b", "a\nb", "a\0"]


def test_an_object_is_read_back_as_written(storage: Storage) -> None:
    storage.write("runs/demo/a b+c=1.json", b"\x00first")
    storage.write("runs/demo/a b+c=1.json", b"second")

    assert storage.read("runs/demo/a b+c=1.json") == b"second"


@pytest.mark.parametrize(
    ("start", "length"), [(0, 4), (3, 4), (7, None), (8, 100), (10, None), (50, 2), (2, 0), (0, 10)]
)
def test_a_ranged_read_is_a_slice_of_the_object(
    storage: Storage, start: int, length: int | None
) -> None:
    data = b"0123456789"
    storage.write("object", data)

    part = storage.read("object", start, length)

    assert part == data[start : None if length is None else start + length]


def test_an_empty_object_exists_and_reads_as_empty(storage: Storage) -> None:
    storage.write("empty", b"")

    assert storage.exists("empty")
    assert storage.read("empty") == b""


def test_reading_what_is_not_there_names_its_address(storage: Storage) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        storage.read("runs/absent", 3, 4)

    assert storage.uri("runs/absent") in str(caught.value)
    assert not storage.exists("runs/absent")


def test_a_folder_is_not_an_object(storage: Storage) -> None:
    storage.write("runs/demo/object", b"")

    assert not storage.exists("runs/demo")


def test_of_sixteen_racing_writers_exactly_one_wins_and_the_others_see_its_object(
    storage: Storage,
) -> None:
    barrier = threading.Barrier(16)

    def write(writer: int) -> tuple[bool, bytes]:
        barrier.wait()
        is_ours = storage.write_if_absent("runs/marker", b"%d" % writer)
        return is_ours, storage.read("runs/marker")

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(write, range(16)))

    winners = [writer for writer, (is_ours, _) in enumerate(results) if is_ours]
    assert len(winners) == 1
    assert {seen for _, seen in results} == {b"%d" % winners[0]}


def test_the_loser_of_a_race_may_have_written_the_same_bytes(storage: Storage) -> None:
    assert storage.write_if_absent("marker", b"same")
    assert not storage.write_if_absent("marker", b"same")


def test_a_listing_holds_the_keys_below_a_folder_sorted(storage: Storage) -> None:
    for key in ("a/b/2", "a/b/10", "a/bc/1", "a/b/c/1", "a/b.txt", "z"):
        storage.write(key, b"")

    assert storage.list("a/b") == ["a/b/10", "a/b/2", "a/b/c/1"]
    assert storage.list("") == ["a/b.txt", "a/b/10", "a/b/2", "a/b/c/1", "a/bc/1", "z"]
    assert storage.list("a/b/2") == []
    assert storage.list("absent") == []


def test_the_stores_own_files_are_not_listed(storage: Storage) -> None:
    storage.write_if_absent("only", b"")

    assert storage.list("") == ["only"]


def test_a_file_goes_up_and_comes_down_unchanged(storage: Storage, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096 * 17  # 17 MiB: several parts on S3
    (tmp_path / "up").write_bytes(data)

    storage.upload(tmp_path / "up", "datasets/demo/shard.tar")
    storage.download("datasets/demo/shard.tar", tmp_path / "new folder" / "down")

    assert (tmp_path / "new folder" / "down").read_bytes() == data
    assert storage.read("datasets/demo/shard.tar", len(data) - 300, 300) == data[-300:]


def test_a_download_of_what_is_not_there_leaves_no_file(storage: Storage, tmp_path: Path) -> None:
    target = tmp_path / "downloads" / "file"

    with pytest.raises(FileNotFoundError, match="absent"):
        storage.download("absent", target)

    assert not target.parent.exists() or list(target.parent.iterdir()) == []


def test_deleting_twice_is_fine(storage: Storage) -> None:
    storage.write("object", b"")

    storage.delete("object")
    storage.delete("object")

    assert not storage.exists("object")


def test_a_store_can_be_sent_to_another_process(storage: Storage) -> None:
    storage.write("object", b"data")

    copy: Storage = pickle.loads(pickle.dumps(storage))

    assert copy.read("object") == b"data"


@pytest.mark.parametrize("key", _BAD_KEYS)
def test_a_key_that_could_leave_the_root_or_hide_is_refused(
    local_storage: LocalStorage, key: str
) -> None:
    with pytest.raises(ValueError, match="not a storage key"):
        local_storage.write(key, b"")


def test_json_keeps_nan_infinities_and_other_alphabets(local_storage: LocalStorage) -> None:
    write_json(local_storage, "value.json", {"name": "Z\u00fcrich", "loss": [math.nan, -math.inf]})

    value = read_json(local_storage, "value.json")

    assert value["name"] == "Z\u00fcrich"
    assert math.isnan(value["loss"][0])
    assert value["loss"][1] == -math.inf


def test_only_the_first_json_stays(local_storage: LocalStorage) -> None:
    assert write_json_if_absent(local_storage, "marker.json", 1)
    assert not write_json_if_absent(local_storage, "marker.json", 2)
    assert read_json(local_storage, "marker.json") == 1


def test_damaged_json_is_reported_with_its_address(local_storage: LocalStorage) -> None:
    local_storage.write("marker.json", b'{"half":')

    with pytest.raises(StageError, match=r"marker\.json is damaged"):
        read_json(local_storage, "marker.json")


def test_a_failed_write_leaves_the_old_object_and_no_other_file(
    local_storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_storage.write("runs/object", b"old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        local_storage.write("runs/object", b"new")

    assert local_storage.read("runs/object") == b"old"
    assert [path.name for path in Path(local_storage.root_uri, "runs").iterdir()] == ["object"]


def test_what_a_killed_writer_left_behind_is_invisible(local_storage: LocalStorage) -> None:
    local_storage.write("runs/object", b"")
    Path(local_storage.root_uri, "runs", ".0123456789abcdef.tmp").write_bytes(b"half")

    assert local_storage.list("runs") == ["runs/object"]


def test_a_file_system_without_hard_links_is_refused(
    local_storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(link: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", fail)

    with pytest.raises(StageError, match="without hard links"):
        local_storage.write_if_absent("runs/marker", b"")
    assert local_storage.list("") == []


def test_a_link_that_was_made_but_reported_as_anothers_counts_as_ours(
    local_storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Path.hardlink_to

    def link_and_fail(path: Path, target: Path) -> None:
        link(path, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(Path, "hardlink_to", link_and_fail)

    assert local_storage.write_if_absent("runs/marker", b"ours")
    assert local_storage.read("runs/marker") == b"ours"


def test_a_relative_root_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert open_storage("some/../store").root_uri == str(tmp_path / "store")


def test_an_unknown_kind_of_root_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="expected a local folder or s3://"):
        open_storage("gs://bucket/prefix")


def test_only_folders_are_local() -> None:
    assert is_local("/data/sigma")
    assert is_local("store")
    assert not is_local("s3://bucket/prefix")
