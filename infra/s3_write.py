"""Objects to S3: in parts where they are large, with checksums that the server checks."""

import logging
import os
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.s3_client import Place, client
from sigma_pipeline.infra.s3_etag import PART_BYTES_NOTE, compare_etag, etag_of_parts, known_etag
from sigma_pipeline.infra.s3_retry import error_code, repeat

log = logging.getLogger(__name__)

_PART_BYTES = 16 << 20
_MAX_PARTS = 10_000
_THREADS = 4


def put_once(place: Place, data: bytes, **conditions: Any) -> None:
    """Puts an object by one request, which is not repeated; raises what boto3 does.

    Raises:
        DamagedError: what arrived differs.
    """
    digest = md5(data, usedforsecurity=False)
    answer = client().put_object(
        **place.address, Body=data, ContentMD5=_in_header(digest.digest()), **conditions
    )
    compare_etag(answer, digest.hexdigest())


def upload(place: Place, path: Path) -> None:
    """Puts a file at once, in parts if it is large; errors of ``repeat``.

    Parts that were sent are removed if it fails; a killed process leaves them to the bucket's
    lifecycle rules.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= _PART_BYTES:
            repeat(place.uri, partial(put_once, place, file.read()))
        else:
            _upload_parts(place, file, size)


def _upload_parts(place: Place, file: BinaryIO, size: int) -> None:
    part_bytes = max(_PART_BYTES, -(-size // _MAX_PARTS))
    begin = partial(
        client().create_multipart_upload,
        **place.address,
        Metadata={PART_BYTES_NOTE: str(part_bytes)},
    )
    parts = _Parts(place, file.fileno(), part_bytes, repeat(place.uri, begin)["UploadId"])
    with ExitStack() as undo:
        undo.callback(parts.abort)
        with ThreadPoolExecutor(_THREADS) as pool:
            sent = list(pool.map(parts.send, range(1, -(-size // part_bytes) + 1)))
        repeat(place.uri, partial(parts.complete, [part for part, _ in sent]))
        undo.pop_all()
    _check_object(place, size, etag_of_parts([digest for _, digest in sent]))


def _check_object(place: Place, size: int, etag: str) -> None:
    """Ceph gives no ETag when an upload is completed, and a lost answer says nothing either."""
    head = repeat(place.uri, partial(client().head_object, **place.address))
    if head["ContentLength"] != size or known_etag(head) not in (etag, None):
        raise StageError(
            f"{place.uri} has {head['ContentLength']} bytes with ETag {head['ETag']}, but {size} "
            f"with {etag} were uploaded; the same command uploads them again"
        )


@dataclass(frozen=True)
class _Parts:
    """An upload in parts that has begun."""

    place: Place
    descriptor: int
    part_bytes: int
    upload_id: str

    def send(self, number: int) -> tuple[dict[str, Any], bytes]:
        """Part ``number``, from 1: what completing the upload needs, and its MD5."""
        data = os.pread(self.descriptor, self.part_bytes, (number - 1) * self.part_bytes)
        digest = md5(data, usedforsecurity=False)

        def send() -> str:
            answer = client().upload_part(
                **self._address,
                PartNumber=number,
                Body=data,
                ContentMD5=_in_header(digest.digest()),
            )
            compare_etag(answer, digest.hexdigest())
            return str(answer["ETag"])

        return {"PartNumber": number, "ETag": repeat(self.place.uri, send)}, digest.digest()

    def complete(self, parts: list[dict[str, Any]]) -> None:
        """Makes the parts the object."""
        try:
            client().complete_multipart_upload(**self._address, MultipartUpload={"Parts": parts})
        except ClientError as error:
            # An earlier attempt may have succeeded and its answer got lost: the object tells.
            if error_code(error) != "NoSuchUpload":
                raise

    def abort(self) -> None:
        """Removes the parts, or says that they are still there."""
        try:
            client().abort_multipart_upload(**self._address)
        except (ClientError, BotoCoreError) as error:
            log.warning(
                "%s: parts of a failed upload stay in the bucket: %s", self.place.uri, error
            )

    @property
    def _address(self) -> dict[str, str]:
        return {**self.place.address, "UploadId": self.upload_id}


def _in_header(digest: bytes) -> str:
    return b64encode(digest).decode()
