"""Objects from S3: in pieces where they are large, and compared with their length and checksum."""

import io
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError

from sigma_pipeline.infra import s3_client
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.s3_client import Place, client
from sigma_pipeline.infra.s3_etag import DamagedError, compare_content
from sigma_pipeline.infra.s3_retry import error_code, repeat

_PIECE_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_THREADS = 4


def read(place: Place, start: int, length: int | None) -> bytes:
    """``length`` bytes from ``start``, fewer where the object ends before; errors of ``repeat``."""
    first = _get(place, start, _PIECE_BYTES if length is None else min(length, _PIECE_BYTES))
    end = first.object_bytes if length is None else min(start + length, first.object_bytes)
    begins = range(start + len(first.data), end, _PIECE_BYTES)
    if not begins:
        return first.data
    with ThreadPoolExecutor(_THREADS) as pool:
        return b"".join((first.data, *pool.map(partial(_get_more, place, first, end), begins)))


def download(place: Place, path: Path) -> None:
    """Brings a whole object to the file ``path``; errors of ``repeat``.

    Raises:
        StageError: also where the object was replaced meanwhile, or is not what its ETag says.
    """
    first = _get(place, 0, _PIECE_BYTES)
    path.write_bytes(first.data)
    if len(first.data) == first.object_bytes:
        return

    def fetch(begin: int) -> None:
        data = _get_more(place, first, first.object_bytes, begin)
        with path.open("r+b") as file:
            file.seek(begin)
            file.write(data)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(fetch, range(len(first.data), first.object_bytes, _PIECE_BYTES)))
    try:
        with path.open("rb") as file:
            compare_content(first.answer, file)
    except DamagedError as error:
        raise StageError(f"{place.uri}: {error}; the same command reads it again") from error


@dataclass(frozen=True)
class _Piece:
    """Bytes of an object, and what was said about all of it."""

    data: bytes
    object_bytes: int
    answer: Mapping[str, Any]


def _get(place: Place, start: int, length: int) -> _Piece:
    return repeat(place.uri, partial(_get_once, place, start, length))


def _get_more(place: Place, first: _Piece, end: int, start: int) -> bytes:
    """The piece from ``start``, of the same object as ``first``."""
    same = {"IfMatch": first.answer["ETag"]}
    length = min(_PIECE_BYTES, end - start)
    return repeat(place.uri, partial(_get_once, place, start, length, **same)).data


def _get_once(place: Place, start: int, length: int, **conditions: str) -> _Piece:
    wanted = f"bytes={start}-{start + length - 1}"
    try:
        answer = client().get_object(**place.address, Range=wanted, **conditions)
    except ClientError as error:
        if error_code(error) == "InvalidRange":  # it begins at the end or after it
            return _Piece(b"", start, {})
        raise
    with closing(answer["Body"]) as body:
        data = _read_body(body, place.uri)
    if "ContentRange" not in answer:
        raise StageError(f"{s3_client.endpoint()} cannot read a range of {place.uri}")
    object_bytes = int(answer["ContentRange"].rpartition("/")[2])
    expected = min(length, object_bytes - start)
    if len(data) != expected:
        raise IncompleteReadError(actual_bytes=len(data), expected_bytes=expected)
    if len(data) == object_bytes:
        compare_content(answer, io.BytesIO(data))
    return _Piece(data, object_bytes, answer)


def _read_body(body: Any, uri: str) -> bytes:
    """All of it, in bounded time though it may trickle in."""
    deadline = time.monotonic() + s3_client.RETRY.total_s
    chunks = []
    while chunk := body.read(_CHUNK_BYTES):
        chunks.append(chunk)
        if time.monotonic() > deadline:
            raise ReadTimeoutError(endpoint_url=uri)
    return b"".join(chunks)
