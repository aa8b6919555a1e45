"""What S3 says about the content of an object, compared with the content.

An ETag is the MD5 of what was put by one request, or that of its parts' MD5s. It says nothing
under encryption with other keys than the server's own (SSE-KMS, SSE-C), nor about parts of a size
that is not known; uploads of this project note theirs.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import md5
from io import BufferedReader, BytesIO
from typing import Any

from botocore.exceptions import BotoCoreError

PART_BYTES_NOTE = "part-bytes"
"""Name of the metadata that says how large the parts of an object are."""

_MD5_ETAG = re.compile(r'"?([0-9a-f]{32}(?:-[0-9]+)?)"?')


class DamagedError(BotoCoreError):
    """What arrived is not what was sent."""

    fmt = "the content arrived damaged: its ETag is {found}, not {expected}"


def compare_etag(answer: Mapping[str, Any], expected: str) -> None:
    """Compares the ETag in an answer of the server with that of the content.

    Raises:
        DamagedError: they differ, and the ETag is one that can be compared.
    """
    found = known_etag(answer)
    if found is not None and found != expected:
        raise DamagedError(found=found, expected=expected)


def compare_content(answer: Mapping[str, Any], content: BytesIO | BufferedReader) -> None:
    """Compares a whole object with the ETag it came with.

    Raises:
        DamagedError: they differ, and the ETag is one that can be compared.
    """
    if "-" not in (known_etag(answer) or ""):
        digest = hashlib.file_digest(content, partial(md5, usedforsecurity=False))
        compare_etag(answer, digest.hexdigest())
        return
    note = answer.get("Metadata", {}).get(PART_BYTES_NOTE, "")
    if re.fullmatch("[1-9][0-9]{0,12}", note):
        parts = iter(partial(content.read, int(note)), b"")
        digests = [md5(part, usedforsecurity=False).digest() for part in parts]
        compare_etag(answer, etag_of_parts(digests))


def etag_of_parts(digests: Sequence[bytes]) -> str:
    """The ETag of an object whose parts have these MD5s."""
    return f"{md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def known_etag(answer: Mapping[str, Any]) -> str | None:
    """The ETag without its quotes, if it is made of MD5s."""
    is_by_foreign_key = "SSECustomerAlgorithm" in answer or "kms" in answer.get(
        "ServerSideEncryption", ""
    )
    match = _MD5_ETAG.fullmatch(answer.get("ETag", ""))
    return match[1] if match and not is_by_foreign_key else None
