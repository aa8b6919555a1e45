"""An ETag is compared with the content wherever it says something about it, and nowhere else."""

import hashlib
from io import BytesIO
from typing import Any

import pytest

from sigma_pipeline.infra.s3_etag import DamagedError, compare_content, etag_of_parts, known_etag

_CONTENT = bytes(range(100))
_PLAIN = hashlib.md5(_CONTENT).hexdigest()
_OF_PARTS = etag_of_parts([hashlib.md5(_CONTENT[at : at + 40]).digest() for at in (0, 40, 80)])


def answer(etag: str, part_bytes: str | None = None, **more: str) -> dict[str, Any]:
    return {"ETag": etag, "Metadata": {"part-bytes": part_bytes} if part_bytes else {}, **more}


@pytest.mark.parametrize("good", [answer(f'"{_PLAIN}"'), answer(f'"{_OF_PARTS}"', "40")])
def test_content_is_compared_byte_by_byte(good: dict[str, Any]) -> None:
    compare_content(good, BytesIO(_CONTENT))

    for bad in (_CONTENT[:-1], _CONTENT + b"x", _CONTENT[:50] + b"x" + _CONTENT[51:], b""):
        with pytest.raises(DamagedError, match="arrived damaged"):
            compare_content(good, BytesIO(bad))


@pytest.mark.parametrize(
    "silent",
    [
        answer(f'"{_OF_PARTS}"'),
        answer(f'"{_OF_PARTS}"', "0"),
        answer(f'"{_OF_PARTS}"', "-1"),
        answer(f'"{_OF_PARTS}"', "many"),
        answer(f'"{_PLAIN}"', ServerSideEncryption="aws:kms"),
        answer(f'"{_PLAIN}"', ServerSideEncryption="aws:kms:dsse"),
        answer(f'"{_PLAIN}"', SSECustomerAlgorithm="AES256"),
        answer('"opaque"'),
        answer('""'),
        {},
    ],
)
def test_an_etag_that_says_nothing_about_the_content_is_not_compared(
    silent: dict[str, Any],
) -> None:
    compare_content(silent, BytesIO(b"other content"))


def test_encryption_with_the_keys_of_the_server_keeps_the_etag() -> None:
    assert known_etag(answer(f'"{_PLAIN}"', ServerSideEncryption="AES256")) == _PLAIN
