"""Storage on S3: AWS, and servers that speak its protocol, such as Ceph. The only import of boto3.

Endpoint, region and credentials are what boto3 finds by itself (``AWS_ENDPOINT_URL``,
``AWS_ACCESS_KEY_ID``, ``~/.aws``, instance roles); nothing of them is kept in a configuration.
"""

import builtins
import functools
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.storage import check_key, is_hidden

_TRANSFER = TransferConfig(multipart_chunksize=16 << 20, max_concurrency=4)
_BODY_ATTEMPTS = 4
_CONFLICT_ATTEMPTS = 8
_PROBE = ".create-only-probe"
_ABSENT = {"404", "NoSuchKey"}
_TAKEN = {"412", "PreconditionFailed"}
_CONFLICT = {"409", "ConditionalRequestConflict"}
_REFUSED = {
    "401",
    "403",
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}


@dataclass(frozen=True)
class S3Storage:
    """A prefix of a bucket; ``root_uri`` is ``s3://bucket`` or ``s3://bucket/prefix``."""

    root_uri: str

    def uri(self, key: str) -> str:
        """See ``Storage``."""
        return f"{self.root_uri}/{check_key(key)}"

    def exists(self, key: str) -> bool:
        """See ``Storage``."""
        try:
            with _explained(self.uri(key)):
                _client().head_object(Bucket=self._bucket, Key=self._name(key))
        except FileNotFoundError:
            return False
        return True

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See ``Storage``."""
        if length == 0:
            return self.read(key, start, 1)[:0]
        last = "" if length is None else start + length - 1
        with _explained(self.uri(key)):
            return self._read_range(self._name(key), f"bytes={start}-{last}")

    def write(self, key: str, data: bytes) -> None:
        """See ``Storage``."""
        with _explained(self.uri(key)):
            _client().put_object(Bucket=self._bucket, Key=self._name(key), Body=data)

    def write_if_absent(self, key: str, data: bytes) -> bool:
        """See ``Storage``.

        Raises:
            StageError: the server overwrites where it was told not to.
        """
        with _explained(self.uri(key)):
            self._check_server()
            return self._put_if_absent(self._name(key), data)

    def upload(self, path: Path, key: str) -> None:
        """See ``Storage``."""
        with path.open("rb") as file, _explained(self.uri(key)):
            _client().upload_fileobj(file, self._bucket, self._name(key), Config=_TRANSFER)

    def download(self, key: str, path: Path) -> None:
        """See ``Storage``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open("xb") as file, _explained(self.uri(key)):
                _client().download_fileobj(self._bucket, self._name(key), file, Config=_TRANSFER)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def list(self, prefix: str) -> builtins.list[str]:
        """See ``Storage``."""
        folder = f"{self._name(prefix)}/" if prefix else self._name("")
        with _explained(f"{self.root_uri}/{prefix}"):
            pages = (
                _client()
                .get_paginator("list_objects_v2")
                .paginate(Bucket=self._bucket, Prefix=folder)
            )
            names = [item["Key"] for page in pages for item in page.get("Contents", ())]
        keys = (name.removeprefix(self._name("")) for name in names)
        return sorted(key for key in keys if not is_hidden(key))

    def delete(self, key: str) -> None:
        """See ``Storage``."""
        with _explained(self.uri(key)):
            _client().delete_object(Bucket=self._bucket, Key=self._name(key))

    @property
    def _bucket(self) -> str:
        return urlsplit(self.root_uri).netloc

    def _name(self, key: str) -> str:
        """The key as the bucket knows it."""
        folder = urlsplit(self.root_uri).path.removeprefix("/")
        return f"{folder}/{key}" if folder else key

    def _read_range(self, name: str, wanted: str) -> bytes:
        for _ in range(_BODY_ATTEMPTS):
            try:
                answer = _client().get_object(Bucket=self._bucket, Key=name, Range=wanted)
            except ClientError as error:
                if _code(error) == "InvalidRange":  # it begins at the end or after it
                    return b""
                raise
            try:
                data: bytes = answer["Body"].read()
            except BotoCoreError as error:
                broken_off = error  # boto3 repeats a request, but not one whose answer breaks off
            else:
                return data
        raise broken_off

    def _put_if_absent(self, name: str, data: bytes) -> bool:
        writer = secrets.token_hex(8)
        for _ in range(_CONFLICT_ATTEMPTS):
            try:
                _client().put_object(
                    Bucket=self._bucket,
                    Key=name,
                    Body=data,
                    IfNoneMatch="*",
                    Metadata={"writer": writer},
                )
            except ClientError as error:
                if _code(error) in _TAKEN:
                    return self._is_written_by(writer, name)
                if _code(error) not in _CONFLICT:
                    raise
                time.sleep(0.2)  # AWS: another put or a delete of this key is under way
            else:
                return True
        raise StageError(f"s3://{self._bucket}/{name} is being written by others all the time")

    def _is_written_by(self, writer: str, name: str) -> bool:
        """Whether a refused put was our own, repeated by boto3 after its first answer got lost."""
        head = _client().head_object(Bucket=self._bucket, Key=name)
        return bool(head["Metadata"].get("writer") == writer)

    def _check_server(self) -> None:
        """Some servers ignore ``If-None-Match`` and overwrite; two jobs would then both go on."""
        checked = _checked_roots(os.getpid())
        if self.root_uri in checked:
            return
        name = self._name(_PROBE)
        if self._put_if_absent(name, b"") and self._put_if_absent(name, b""):
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


def _client() -> Any:
    return _client_of(os.getpid())


@functools.cache
def _client_of(process_id: int) -> Any:
    """This process's client. Connections must not be shared with the parent after a fork."""
    del process_id
    config = Config(
        s3={"addressing_style": "path"},
        # Ceph before 17 cannot read the checksum trailers that boto3 adds on https by default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # About 15 s in all: a gateway that restarts must not end a training run.
        retries={"mode": "standard", "total_max_attempts": 10},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=32,
    )
    return boto3.session.Session().client("s3", config=config)


@functools.cache
def _checked_roots(process_id: int) -> set[str]:
    """Stores of which this process knows that they honour ``If-None-Match``."""
    del process_id
    return set()


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turns boto3's errors into ones a user can act on."""
    try:
        yield
    except ClientError as error:
        raise _explanation(error, uri) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ConfigError(
            f"no credentials for {uri}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except BotoCoreError as error:
        raise StageError(f"{uri}: {error} (endpoint: {_endpoint()})") from error


def _explanation(error: ClientError, uri: str) -> Exception:
    code = _code(error)
    if code in _ABSENT:
        return FileNotFoundError(uri)
    if code == "NoSuchBucket":
        bucket = urlsplit(uri).netloc
        return ConfigError(
            f"bucket {bucket!r} does not exist at {_endpoint()}; create it or change root_uri"
        )
    if code in _REFUSED:
        return ConfigError(
            f"{_endpoint()} refuses access to {uri} ({code}); check AWS_ENDPOINT_URL, "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return StageError(f"{uri}: {error}")


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _endpoint() -> str:
    return str(_client().meta.endpoint_url)
