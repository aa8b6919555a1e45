"""What a job was made from: the state of the checkout that the code lies in, and the packages."""

import os
import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

_LARGEST_DIFF = 5 << 20
_GIT_TIMEOUT_S = 30.0


def describe_checkout(folder: Path) -> tuple[dict[str, Any] | None, bytes]:
    """Commit, branch and changes of the git checkout that a package lies in.

    Args:
        folder: of the package. A package that is installed into a checkout of something else is
            not tracked there, and then has none.

    Returns:
        ``{commit, branch, is_dirty}``, or None without a checkout or without git; and the changes
        since the commit. Of files that git does not track only the names are told: they may hold
        anything.
    """
    is_tracked = _git(folder, "ls-files", "--error-unmatch", "__init__.py") is not None
    commit = _git(folder, "rev-parse", "HEAD") if is_tracked else None
    root = _git(folder, "rev-parse", "--show-toplevel")
    if commit is None or root is None:
        return None, b""
    top = Path(os.fsdecode(root.rstrip(b"\n")))
    diff = _git(top, "diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color") or b""
    untracked = _git(top, "ls-files", "--others", "--exclude-standard") or b""
    names = [b"# untracked: " + name for name in untracked.splitlines()]
    branch = _git(top, "symbolic-ref", "--short", "HEAD")
    facts = {
        "commit": commit.decode().strip(),
        "branch": branch.decode().strip() if branch else None,
        "is_dirty": bool(diff or names),
    }
    return facts, b"".join(line + b"\n" for line in names) + _shortened(diff)


def list_packages() -> Iterator[str]:
    """``name==version`` of Python and of every installed distribution, by name."""
    yield f"python=={platform.python_version()}"
    found = {(found.metadata["Name"], found.version) for found in metadata.distributions()}
    yield from sorted((f"{name}=={version}" for name, version in found), key=str.lower)


def _shortened(diff: bytes) -> bytes:
    if len(diff) <= _LARGEST_DIFF:
        return diff
    return diff[:_LARGEST_DIFF] + b"\n# cut here: %d bytes in all\n" % len(diff)


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints; None where it fails or is not installed."""
    command = ["git", "-C", str(folder), "-c", "core.quotePath=false", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
