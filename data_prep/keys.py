"""Names of samples inside tars."""

import hashlib
import os
import re
from pathlib import PurePosixPath

_SLUG_LENGTH = 40
_HASH_DIGITS = 12


def sample_key(name: str) -> str:
    """The key of the video at the relative path ``name``: a readable end, and a hash of it all.

    The same on every run, without dots (webdataset cuts a member's name at the first one) and
    without spaces. Bytes that are no UTF-8 are expected as Python's surrogate escapes.
    """
    stem = str(PurePosixPath(name).with_suffix(""))
    slug = re.sub(r"[^A-Za-z0-9]+", "-", stem)[-_SLUG_LENGTH:].strip("-") or "video"
    digits = hashlib.sha256(os.fsencode(name)).hexdigest()[:_HASH_DIGITS]
    return f"{slug}-{digits}"


def printable(name: str) -> str:
    """A relative path as text that any file format takes: odd bytes become ``\\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
