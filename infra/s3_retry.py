"""Requests to S3 repeated while they fail in ways that pass, and failures in words."""

import logging
import secrets
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as EndpointError
from botocore.parsers import ResponseParserError

from sigma_pipeline.infra import s3_client
from sigma_pipeline.infra.errors import ConfigError, StageError, StoreRefuses, StoreUnreachable
from sigma_pipeline.infra.s3_etag import DamagedError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_ABSENT = {"404", "NoSuchKey"}
_REPLACED = {"412", "PreconditionFailed"}
_REFUSED = {
    "401",
    "403",
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}
_PASSING_CODES = {
    "BadDigest",
    "ConditionalRequestConflict",  # AWS: another put or a delete of this key is under way
    "IncompleteBody",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "XAmzContentSHA256Mismatch",
}
_PASSING = (
    DamagedError,
    EndpointError,
    HTTPClientError,
    IncompleteReadError,
    ResponseParserError,
)
_NOT_IMPLEMENTED = 501
_WARN_AFTER_S = 5.0


def repeat(uri: str, request: Callable[[], Result]) -> Result:
    """What ``request`` gives in the end. It may have been done before, with its answer lost.

    Repeated, with growing pauses: errors of the server (5xx), throttling, timeouts, broken
    connections, and answers that break off or arrive damaged.

    Raises:
        FileNotFoundError: there is no such object; names its URI.
        ConfigError: the bucket is missing.
        StoreRefuses: access is refused, or there are no credentials; also a ConfigError.
        StoreUnreachable: no good answer within ``RETRY.total_s``.
        StageError: anything else.
    """
    policy, begin, attempt, is_told = s3_client.RETRY, time.monotonic(), 0, False
    while True:
        try:
            return request()
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            if not _may_pass(error):
                raise _explanation(error, uri) from error
            # Clients that failed together should not come back together.
            delay_s = policy.delay_s(attempt) * (0.5 + secrets.randbelow(500) / 1000)
            tried_s = time.monotonic() - begin
            if tried_s + delay_s > policy.total_s:
                raise StoreUnreachable(
                    f"{uri}: no good answer from {s3_client.endpoint()} in {tried_s:.0f} s "
                    f"(last: {_reason(error)}); once it answers, the same command continues"
                ) from error
            if not is_told and tried_s + delay_s > _WARN_AFTER_S:
                log.warning("%s: %s; still trying", uri, _reason(error))
                is_told = True
        time.sleep(delay_s)
        attempt += 1


def error_code(error: ClientError) -> str:
    """S3's name of an error, or the HTTP status of an answer without a body."""
    return str(error.response["Error"]["Code"])


def is_taken(error: ClientError) -> bool:
    """Whether a put under ``If-None-Match: *`` was refused because an object is there."""
    return error_code(error) in _REPLACED


def _may_pass(error: Exception) -> bool:
    if not isinstance(error, ClientError):
        return isinstance(error, _PASSING)
    status = _status(error)
    is_overloaded = status == 429 or (status >= 500 and status != _NOT_IMPLEMENTED)
    return is_overloaded or error_code(error) in _PASSING_CODES


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _reason(error: Exception) -> str:
    if isinstance(error, ClientError):
        message = error.response["Error"].get("Message")
        return f"{_status(error)} {error_code(error)}" + (f": {message}" if message else "")
    return str(error)


def _explanation(error: Exception, uri: str) -> Exception:
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return StoreRefuses(
            f"no credentials for {uri}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    code = error_code(error) if isinstance(error, ClientError) else ""
    if code in _ABSENT:
        return FileNotFoundError(uri)
    if code == "NoSuchBucket":
        return ConfigError(
            f"bucket {urlsplit(uri).netloc!r} does not exist at {s3_client.endpoint()}; create it "
            "or change root_uri"
        )
    if code in _REFUSED:
        return StoreRefuses(
            f"{s3_client.endpoint()} refuses access to {uri} ({code}); check AWS_ENDPOINT_URL, "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if code in _REPLACED:
        return StageError(f"{uri} was replaced while it was read; the same command reads it again")
    return StageError(f"{uri}: {_reason(error)} (endpoint: {s3_client.endpoint()})")
