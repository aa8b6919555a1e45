"""Records of tensors on the store as pieces: any range of any tensor can be read and checked alone.

A piece is a run of elements of one flattened tensor at a known place in one safetensors file. The
processes of a job write the pieces that they own; a job with another number of processes reads the
ranges that it needs. Nothing is unpickled. Without PyTorch: bytes become tensors in
``tensor_pieces``.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage

ITEM_BYTES = {"F32": 4, "BF16": 2, "F16": 2, "I64": 8}
"""Of one element, by its type as safetensors names it."""
_MAX_READ_BYTES = 64 << 20


class DamagedCommit(StageError):  # noqa: N818 - named by what was found
    """What lies in the store is not what was committed; an earlier commit may be."""


@dataclass(frozen=True)
class Piece:
    """Elements [start, start + length) of a flattened tensor, and where their bytes lie."""

    tensor: str
    start: int
    length: int
    dtype: str
    """As safetensors names it."""
    file: str
    """Name beside ``commit.json``."""
    offset: int
    """Of the first byte in the file."""
    sha256: str
    """Of the piece's bytes."""

    @property
    def num_bytes(self) -> int:
        """Size in the file."""
        return self.length * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Wanted:
    """Elements [start, start + length) of a flattened tensor that somebody needs."""

    tensor: str
    start: int
    length: int

    def overlap(self, piece: Piece) -> tuple[int, int]:
        """First and last-plus-one element that both have; empty when the first is not smaller."""
        first = max(self.start, piece.start)
        return first, min(self.start + self.length, piece.start + piece.length)


def read_checked(
    storage: Storage, folder: str, pieces: Iterable[Piece]
) -> Iterator[tuple[Piece, memoryview]]:
    """The bytes of pieces, by file and place; neighbours in a file are read in one go.

    Raises:
        DamagedCommit: a file is missing or short, or the bytes are not those that were written.
    """
    in_order = sorted(pieces, key=lambda piece: (piece.file, piece.offset))
    for file, group in groupby(in_order, key=lambda piece: piece.file):
        for run in _neighbours(list(group)):
            start = run[0].offset
            data = _read(storage, f"{folder}/{file}", start, _end(run[-1]) - start)
            for piece in run:
                part = data[piece.offset - start : _end(piece) - start]
                if hashlib.sha256(part).hexdigest() != piece.sha256:
                    raise DamagedCommit(
                        f"{storage.uri(f'{folder}/{file}')} is damaged at {piece.tensor}: its "
                        "bytes are not those that were written"
                    )
                yield piece, part


def _read(storage: Storage, key: str, start: int, length: int) -> memoryview:
    try:
        # Writable, since a tensor may be made of it.
        return memoryview(bytearray(storage.read(key, start, length)))
    except FileNotFoundError as error:
        raise DamagedCommit(f"{storage.uri(key)} is missing") from error


def _neighbours(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Runs of pieces of one file without gaps between their bytes; none too long for memory."""
    run: list[Piece] = []
    for piece in pieces:
        is_next = bool(run) and _end(run[-1]) == piece.offset
        if run and not (is_next and _end(piece) - run[0].offset <= _MAX_READ_BYTES):
            yield run
            run = []
        run.append(piece)
    if run:
        yield run


def _end(piece: Piece) -> int:
    """The byte after the last one."""
    return piece.offset + piece.num_bytes
