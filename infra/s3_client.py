"""The connection to S3: AWS, and servers that speak its protocol, such as Ceph.

The only import of boto3. Endpoint, region and credentials are what boto3 finds by itself
(``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``~/.aws``, instance roles); nothing of them is kept
in a configuration, and none of them is ever logged.
"""

import functools
import os
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from sigma_pipeline.infra.errors import ConfigError


@dataclass(frozen=True)
class RetryPolicy:
    """How long a request is tried: a gateway that restarts must not end a training run."""

    total_s: float = 180.0
    """No new attempt begins after this time."""
    first_delay_s: float = 0.2
    """Before the second attempt; each further delay is twice as long."""
    longest_delay_s: float = 15.0
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    """Longest silence of the server within an answer."""

    def delay_s(self, attempt: int) -> float:
        """Longest pause after attempt number ``attempt``, from 0."""
        return float(min(self.longest_delay_s, self.first_delay_s * 2 ** min(attempt, 16)))


RETRY = RetryPolicy()
"""What all requests keep to. Tests put a shorter one here, then call ``forget_clients``."""


@dataclass(frozen=True)
class Place:
    """Where an object lies."""

    bucket: str
    name: str

    @property
    def uri(self) -> str:
        """For messages."""
        return f"s3://{self.bucket}/{self.name}"

    @property
    def address(self) -> dict[str, str]:
        """As boto3 takes it."""
        return {"Bucket": self.bucket, "Key": self.name}


def client() -> Any:
    """This process's client; usable from all its threads.

    Raises:
        ConfigError: the endpoint is no URL, or holds a password, which messages would show.
    """
    process_id = os.getpid()
    with _lock_of(process_id):  # making a client takes long enough for all threads to begin one
        return _client_of(process_id)


def give_up_after(total_s: float) -> None:
    """Has this process try each request for no longer than about ``total_s``."""
    global RETRY
    longest_s = total_s / 2
    RETRY = replace(
        RETRY,
        total_s=longest_s,
        connect_timeout_s=min(RETRY.connect_timeout_s, longest_s),
        read_timeout_s=min(RETRY.read_timeout_s, longest_s),
    )
    forget_clients()


def forget_clients() -> None:
    """Lets the next request read endpoint, credentials and ``RETRY`` anew."""
    _client_of.cache_clear()


def endpoint() -> str:
    """Where requests go, for messages."""
    return str(client().meta.endpoint_url)


@functools.cache
def _lock_of(process_id: int) -> Lock:
    """A lock that another thread cannot have held when this process was forked."""
    del process_id
    return Lock()


@functools.cache
def _client_of(process_id: int) -> Any:
    """Connections must not be shared with the parent after a fork."""
    del process_id
    config = Config(
        s3={"addressing_style": "path"},
        # Ceph before 17 cannot read the checksum trailers that boto3 adds on https by default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Requests are repeated in s3_retry, where answers that break off count too.
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=RETRY.connect_timeout_s,
        read_timeout=RETRY.read_timeout_s,
        max_pool_connections=32,
    )
    try:
        made = boto3.session.Session().client("s3", config=config)
    except ValueError as error:  # botocore's text would repeat the URL
        raise ConfigError("AWS_ENDPOINT_URL is not a URL such as https://host:port") from error
    if urlsplit(made.meta.endpoint_url).username is not None:
        raise ConfigError(
            "AWS_ENDPOINT_URL holds a user name; put credentials in AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    return made
