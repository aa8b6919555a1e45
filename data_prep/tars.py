"""Writing a tar: the same bytes for the same members, hashed on their way to the disk."""

import hashlib
import tarfile
from typing import BinaryIO

from sigma_pipeline.data_prep.rows import Member

_MODE = 0o444
_OWNER = "bigdata"  # as webdataset's writer names it


class TarWriter:
    """Writes members one after another, and knows where they are.

    The format is USTAR (POSIX 1003.1-1990), that of webdataset's own writer, which takes an import
    of torch and reading the whole again for its hash and offsets.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0

    def add(self, name: str, content: bytes) -> Member:
        """Writes one member.

        Raises:
            ValueError: the name or the content is longer than the format allows.
        """
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), _MODE
        info.uname = info.gname = _OWNER
        self._write(info.tobuf(tarfile.USTAR_FORMAT))
        member = Member(name, self._size, len(content))
        self._write(content)
        self._write(bytes(-len(content) % tarfile.BLOCKSIZE))
        return member

    def finish(self) -> tuple[str, int]:
        """Writes the end of the archive; SHA-256 and size of the whole."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self._size % tarfile.RECORDSIZE))
        return self._digest.hexdigest(), self._size

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)
        self._size += len(content)
