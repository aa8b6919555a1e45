"""Names that must not collide: fingerprints of settings, and attempts (one life of a job)."""

import hashlib
import json
import secrets
from datetime import UTC, datetime
from typing import Any


def fingerprint(value: Any) -> str:
    """16 hex digits of the sha256 of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def new_attempt() -> str:
    """A fresh attempt id; ids sort by the time of their start (UTC, microseconds)."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}"
