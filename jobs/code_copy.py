"""The copy of this package that jobs run from, so that a checkout may be edited meanwhile.

It lies on the file system that all nodes share, under the hash of its content: jobs of the same
code have one copy, and whoever starts a job can see that nobody has changed it.
"""

import gzip
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import sigma_pipeline
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.identity import new_attempt

PACKAGE = "sigma_pipeline"
_HASH_CHARACTERS = 16

Sources = Mapping[str, bytes]
"""Content of each file by its path in the package, in the order of paths."""


def package_folder() -> Path:
    """Where this package was imported from."""
    assert sigma_pipeline.__file__ is not None
    return Path(sigma_pipeline.__file__).parent


def read_sources(folder: Path) -> Sources:
    """All files of a package but what Python, editors and tools leave there; follows links."""
    found: dict[str, bytes] = {}
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if _belongs(name)]
        for path in (Path(parent, name) for name in names if _belongs(name)):
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return dict(sorted(found.items()))


def copy_code(work_dir: Path) -> Path:
    """The folder, below ``work_dir``, from which Python imports a copy of this very package.

    Raises:
        StageError: somebody has changed the copy that is there.
    """
    sources = read_sources(package_folder())
    folder = work_dir / "code" / _sha256(sources)[:_HASH_CHARACTERS]
    if not folder.is_dir():
        _write(sources, folder)
    if _sha256(read_sources(folder / PACKAGE)) != _sha256(sources):
        raise StageError(
            f"{folder} is not the copy of sigma-pipeline that it was: a file in it was changed; "
            "remove that folder, once no job runs from it, and run this again"
        )
    return folder


def pack_code() -> bytes:
    """This package as a ``.tar.gz``; of equal code, equal bytes."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, content in read_sources(package_folder()).items():
            member = tarfile.TarInfo(f"{PACKAGE}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _belongs(name: str) -> bool:
    return not name.startswith(".") and name != "__pycache__" and not name.endswith(".pyc")


def _sha256(sources: Sources) -> str:
    total = hashlib.sha256()
    for name, content in sources.items():
        total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def _write(sources: Sources, folder: Path) -> None:
    """Puts the copy in its place as a whole; where another launcher was faster, its copy stays."""
    unfinished = folder.with_name(f".{new_attempt()}")
    try:
        for name, content in sources.items():
            path = unfinished / PACKAGE / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not folder.is_dir():
            raise
