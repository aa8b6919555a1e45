"""All files below a folder, as ``find -L`` lists them: through links, but never in a circle."""

import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sigma_pipeline.infra.errors import ConfigError, MissingInputError


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One entry of a source that is no folder."""

    path: str
    """Where it can be opened."""
    name: str
    """Its path relative to the source, with ``/`` between parts."""
    size: int
    flaw: str | None = None
    """Why it must not be opened: a link to nowhere, or a device that might never end."""
    row: int | None = None
    """Of a file with many pictures: which of them; ``size`` is that of one."""


def find_files(root: Path) -> Iterator[SourceFile]:
    """Every file below ``root``, folder by folder.

    Raises:
        MissingInputError: ``root`` is not there, or a folder cannot be listed.
        ConfigError: ``root`` is a file.
    """
    try:
        status = root.stat()
    except OSError as error:
        raise MissingInputError(
            f"source {str(root)!r} cannot be read ({error.strerror}); set the dataset's source, or "
            "shard.source, to a folder of videos"
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"source {str(root)!r} is not a folder; name the folder it lies in")
    yield from _walk(str(root), "", frozenset({_identity(status)}))


def source_prefixes(roots: Sequence[Path]) -> list[str]:
    """What tells equal names of several sources apart; nothing for a single one."""
    if len(roots) == 1:
        return [""]
    used: dict[str, int] = defaultdict(int)
    prefixes = []
    for root in roots:
        name = root.absolute().name or "root"
        used[name] += 1
        prefixes.append(f"{name}/" if used[name] == 1 else f"{name}~{used[name]}/")
    return prefixes


def _walk(folder: str, prefix: str, ancestors: frozenset[tuple[int, int]]) -> Iterator[SourceFile]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise MissingInputError(f"folder {folder!r} cannot be listed: {error.strerror}") from error
    for entry in entries:
        name = prefix + entry.name
        try:
            status = entry.stat()
        except OSError as error:
            yield SourceFile(entry.path, name, 0, f"cannot be followed: {error.strerror}")
            continue
        if stat.S_ISDIR(status.st_mode):
            if _identity(status) not in ancestors:  # else a link back up
                yield from _walk(entry.path, f"{name}/", ancestors | {_identity(status)})
        elif stat.S_ISREG(status.st_mode):
            yield SourceFile(entry.path, name, status.st_size)
        else:
            yield SourceFile(entry.path, name, 0, "not a regular file")


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
