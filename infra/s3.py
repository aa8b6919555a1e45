"""Storage on S3: what ``Storage`` promises, in requests.

Races are decided by single puts with ``If-None-Match: *``, which AWS and Ceph honour.
"""

import builtins
import functools
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.s3_client import Place, client
from sigma_pipeline.infra.s3_read import download, read
from sigma_pipeline.infra.s3_retry import is_taken, repeat
from sigma_pipeline.infra.s3_write import put_once, upload
from sigma_pipeline.infra.storage import check_key, is_hidden

_PROBE = ".create-only-probe"


@dataclass(frozen=True)
class S3Storage:
    """A prefix of a bucket; ``root_uri`` is ``s3://bucket`` or ``s3://bucket/prefix``."""

    root_uri: str

    def uri(self, key: str) -> str:
        """See ``Storage``."""
        return f"{self.root_uri}/{check_key(key)}"

    def exists(self, key: str) -> bool:
        """See ``Storage``."""
        place = self._place(key)
        try:
            repeat(place.uri, lambda: client().head_object(**place.address))
        except FileNotFoundError:
            return False
        return True

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See ``Storage``."""
        if length == 0:
            return self.read(key, start, 1)[:0]
        return read(self._place(key), start, length)

    def write(self, key: str, data: bytes) -> None:
        """See ``Storage``."""
        place = self._place(key)
        repeat(place.uri, partial(put_once, place, data))

    def write_if_absent(self, key: str, data: bytes) -> bool:
        """See ``Storage``.

        Raises:
            StageError: the server overwrites where it was told not to.
        """
        self._check_server()
        return _put_if_absent(self._place(key), data)

    def upload(self, path: Path, key: str) -> None:
        """See ``Storage``."""
        upload(self._place(key), path)

    def download(self, key: str, path: Path) -> None:
        """See ``Storage``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            download(self._place(key), temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def list(self, prefix: str) -> builtins.list[str]:
        """See ``Storage``."""
        folder = f"{self._place(prefix).name}/" if prefix else self._folder
        names = [item["Key"] for page in self._pages(folder) for item in page.get("Contents", ())]
        keys = (name.removeprefix(self._folder) for name in names)
        return sorted(key for key in keys if not is_hidden(key))

    def delete(self, key: str) -> None:
        """See ``Storage``."""
        place = self._place(key)
        repeat(place.uri, lambda: client().delete_object(**place.address))

    @property
    def _bucket(self) -> str:
        return urlsplit(self.root_uri).netloc

    @property
    def _folder(self) -> str:
        """What names in the bucket begin with."""
        path = urlsplit(self.root_uri).path.removeprefix("/")
        return f"{path}/" if path else ""

    def _place(self, key: str) -> Place:
        return Place(self._bucket, self._folder + check_key(key))

    def _pages(self, folder: str) -> Iterator[dict[str, Any]]:
        wanted = {"Bucket": self._bucket, "Prefix": folder}
        while True:
            page = repeat(
                f"s3://{self._bucket}/{folder}", partial(client().list_objects_v2, **wanted)
            )
            yield page
            if not page["IsTruncated"]:
                return
            wanted["ContinuationToken"] = page["NextContinuationToken"]

    def _check_server(self) -> None:
        """Some servers ignore ``If-None-Match`` and overwrite; two jobs would then both go on."""
        checked = _checked_roots(os.getpid())
        if self.root_uri in checked:
            return
        probe = Place(self._bucket, self._folder + _PROBE)
        if _put_if_absent(probe, b"") and _put_if_absent(probe, b""):
            raise StageError(
                f"the server of {self.root_uri} overwrites objects that a put with "
                "'If-None-Match: *' must not; use one that honours it (AWS, Ceph), or a folder"
            )
        checked.add(self.root_uri)


def open_s3(root_uri: str) -> S3Storage:
    """The store at ``s3://bucket/prefix``; no request is made yet.

    Raises:
        ConfigError: the bucket is missing, or the prefix is no key.
    """
    address = urlsplit(root_uri.rstrip("/"))
    try:
        prefix = check_key(address.path.removeprefix("/")) if address.path else ""
    except ValueError as error:
        raise ConfigError(f"root_uri {root_uri!r}: {error}") from error
    if not address.netloc or address.query or address.fragment:
        raise ConfigError(f"root_uri {root_uri!r}: expected s3://bucket/prefix")
    return S3Storage("/".join(filter(None, (f"s3://{address.netloc}", prefix))))


def _put_if_absent(place: Place, data: bytes) -> bool:
    """Puts an object unless one is there: True if it is ours."""
    writer = secrets.token_hex(8)

    def attempt() -> bool:
        try:
            put_once(place, data, IfNoneMatch="*", Metadata={"writer": writer})
        except ClientError as error:
            if not is_taken(error):
                raise
            # Ours, where an earlier attempt was done and its answer got lost.
            head = client().head_object(**place.address)
            return bool(head["Metadata"].get("writer") == writer)
        return True

    return repeat(place.uri, attempt)


@functools.cache
def _checked_roots(process_id: int) -> set[str]:
    """Stores of which this process knows that they honour ``If-None-Match``."""
    del process_id
    return set()
