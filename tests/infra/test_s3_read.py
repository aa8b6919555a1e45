"""What comes down from S3 is what was put, through lost, late, broken and damaged answers."""

from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.infra import s3_read
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from tests.infra.fault_proxy import PASSING_FAULTS, Fault, FaultProxy


@pytest.mark.parametrize("faults", [*PASSING_FAULTS, [Fault("cut", "ANY", times=2)]])
def test_a_ranged_read_goes_through_faults(
    proxy: FaultProxy, s3_storage: Storage, faults: list[Fault]
) -> None:
    s3_storage.write("object", bytes(range(100)))
    proxy.strike(faults, "GET", "object")

    assert s3_storage.read("object", 10, 50) == bytes(range(10, 60))


def test_a_server_that_hangs_is_asked_again(proxy: FaultProxy, s3_storage: Storage) -> None:
    s3_storage.write("object", b"content")
    proxy.faults.append(Fault("delay", "GET", "object", seconds=1.5))

    assert s3_storage.read("object") == b"content"
    assert proxy.count("GET", "object") >= 2


def test_an_object_that_was_damaged_on_the_way_down_is_read_again(
    proxy: FaultProxy, s3_storage: Storage
) -> None:
    s3_storage.write("object", b"content")
    proxy.faults.append(Fault("flip", "GET", "object", times=2))

    assert s3_storage.read("object") == b"content"


@pytest.mark.parametrize("kind", ["status", "reset", "cut"])
def test_a_download_in_pieces_goes_through_faults(
    proxy: FaultProxy,
    s3_storage: Storage,
    small_parts: None,
    large_file: Path,
    tmp_path: Path,
    kind: Any,
) -> None:
    s3_storage.upload(large_file, "large")
    proxy.faults += [Fault(kind, "GET", "large", after=after) for after in (0, 3, 8)]

    s3_storage.download("large", tmp_path / "down")

    assert (tmp_path / "down").read_bytes() == large_file.read_bytes()


def test_a_damaged_download_in_pieces_is_an_error_and_leaves_no_file(
    proxy: FaultProxy, s3_storage: Storage, small_parts: None, large_file: Path, tmp_path: Path
) -> None:
    s3_storage.upload(large_file, "large")
    proxy.faults.append(Fault("flip", "GET", "large", after=4))

    with pytest.raises(StageError, match="arrived damaged"):
        s3_storage.download("large", tmp_path / "folder" / "down")
    assert list((tmp_path / "folder").iterdir()) == []


def test_an_object_that_is_replaced_while_it_is_read_is_an_error(
    s3_storage: Storage, small_parts: None
) -> None:
    s3_storage.write("object", b"old" * 1000)
    place = s3_storage._place("object")
    first = s3_read._get(place, 0, 100)
    s3_storage.write("object", b"new" * 1000)

    with pytest.raises(StageError, match="was replaced while it was read"):
        s3_read._get_more(place, first, 3000, 100)
