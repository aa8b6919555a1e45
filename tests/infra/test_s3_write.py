"""What goes up to S3 arrives whole or not at all, through lost, refused and damaged requests."""

from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.infra import s3_client
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from tests.infra.fault_proxy import EVER, PASSING_FAULTS, Fault, FaultProxy


@pytest.mark.parametrize("faults", PASSING_FAULTS)
def test_a_put_goes_through_faults(
    proxy: FaultProxy, s3_storage: Storage, faults: list[Fault]
) -> None:
    proxy.strike(faults, "PUT", "object")

    s3_storage.write("object", b"content")

    assert s3_storage.read("object") == b"content"


def test_content_that_was_damaged_on_the_way_up_is_sent_again(
    proxy: FaultProxy, s3_storage: Storage
) -> None:
    proxy.faults.append(Fault("damage", "PUT", "object", times=2))

    s3_storage.write("object", b"content")

    assert s3_storage.read("object") == b"content"
    assert proxy.count("PUT", "object") == 3


@pytest.mark.parametrize(
    ("method", "part", "kind"),
    [
        ("POST", "uploads", "status"),
        ("PUT", "partNumber=2", "status"),
        ("PUT", "partNumber=2", "reset"),
        ("PUT", "partNumber=2", "lost"),
        ("PUT", "partNumber=3", "damage"),
        ("POST", "uploadId", "status"),
        ("POST", "uploadId", "lost"),
        ("HEAD", "large", "status"),
    ],
)
def test_an_upload_in_parts_goes_through_faults(
    proxy: FaultProxy,
    s3_storage: Storage,
    small_parts: None,
    large_file: Path,
    method: str,
    part: str,
    kind: Any,
) -> None:
    proxy.faults.append(Fault(kind, method, part, times=2))

    s3_storage.upload(large_file, "large")

    assert s3_storage.read("large") == large_file.read_bytes()


def test_an_upload_in_parts_that_fails_leaves_no_parts_and_the_old_object(
    proxy: FaultProxy, s3_storage: Storage, small_parts: None, impatient: None, large_file: Path
) -> None:
    s3_storage.write("large", b"old")
    proxy.faults.append(Fault("status", "PUT", "partNumber=2", times=EVER))

    with pytest.raises(StageError, match="no good answer"):
        s3_storage.upload(large_file, "large")

    bucket = s3_storage.root_uri.split("/")[2]
    assert not s3_client.client().list_multipart_uploads(Bucket=bucket).get("Uploads")
    assert s3_storage.read("large") == b"old"


def test_an_upload_that_another_process_aborted_is_an_error(
    proxy: FaultProxy, s3_storage: Storage, small_parts: None, large_file: Path
) -> None:
    s3_storage.write("large", b"old")
    proxy.faults.append(Fault("status", "POST", "uploadId", status=404, code="NoSuchUpload"))

    with pytest.raises(StageError, match=r"has 3 bytes with .* the same command uploads them"):
        s3_storage.upload(large_file, "large")
