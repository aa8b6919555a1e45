"""Tensors on the store as pieces: any range of any tensor can be read, and is checked, alone.

A piece is a run of elements of one flattened tensor at a known place in one safetensors file. The
processes of a job write the pieces that they own; a job with another number of processes reads the
ranges that it needs. Nothing is unpickled.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "I64": torch.int64}
"""Names of safetensors."""


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
        return self.length * DTYPES[self.dtype].itemsize


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


def write_pieces(
    path: Path, tensors: Mapping[str, Tensor], starts: Mapping[str, int]
) -> list[Piece]:
    """Writes tensors to a local safetensors file and says where each lies.

    Args:
        path: of the file; its name is the pieces' ``file``.
        tensors: the runs of elements, of any shape.
        starts: number of the first element of a run in its flattened tensor; 0 where absent.
    """
    # Copies: views into one buffer, as optimizer state comes, would be taken for shared tensors.
    on_cpu = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
    save_file(on_cpu, path)
    places = _read_header(path)
    return [
        Piece(
            tensor=name,
            start=starts.get(name, 0),
            length=tensor.numel(),
            dtype=places[name][0],
            file=path.name,
            offset=places[name][1],
            sha256=hashlib.sha256(_bytes_of(tensor)).hexdigest(),
        )
        for name, tensor in on_cpu.items()
    ]


def read_wanted(
    storage: Storage, folder: str, pieces: Sequence[Piece], wanted: Sequence[Wanted]
) -> list[Tensor]:
    """The wanted ranges, as flat CPU tensors, in the order asked for.

    Neighbouring pieces of a file are read in one go; each piece is checked before use.

    Raises:
        StageError: a range is not covered, or the bytes of a piece are not those written.
    """
    by_tensor: dict[str, list[Piece]] = {}
    for piece in pieces:
        by_tensor.setdefault(piece.tensor, []).append(piece)
    needed = {
        piece
        for want in wanted
        for piece in by_tensor.get(want.tensor, ())
        if want.overlap(piece)[0] < want.overlap(piece)[1]
    }
    contents = dict(_read_checked(storage, folder, needed))
    return [_assemble(want, by_tensor.get(want.tensor, ()), contents) for want in wanted]


def _assemble(want: Wanted, pieces: Iterable[Piece], contents: Mapping[Piece, Tensor]) -> Tensor:
    parts, position = [], want.start
    for piece in sorted(pieces, key=lambda piece: piece.start):
        first, end = want.overlap(piece)
        if first < end and first == position:
            parts.append(contents[piece][first - piece.start : end - piece.start])
            position = end
    if position != want.start + want.length:
        raise StageError(
            f"the commit holds {want.tensor} only up to element {position}, but elements "
            f"{want.start} to {want.start + want.length - 1} are needed; resume from another commit"
        )
    return torch.cat(parts)


def _read_checked(
    storage: Storage, folder: str, pieces: Iterable[Piece]
) -> Iterator[tuple[Piece, Tensor]]:
    in_order = sorted(pieces, key=lambda piece: (piece.file, piece.offset))
    for file, group in groupby(in_order, key=lambda piece: piece.file):
        for run in _neighbours(list(group)):
            start = run[0].offset
            length = run[-1].offset + run[-1].num_bytes - start
            data = bytearray(storage.read(f"{folder}/{file}", start, length))
            for piece in run:
                first = piece.offset - start
                part = memoryview(data)[first : first + piece.num_bytes]
                if hashlib.sha256(part).hexdigest() != piece.sha256:
                    uri = storage.uri(f"{folder}/{file}")
                    raise StageError(
                        f"{uri} is damaged at {piece.tensor}: its bytes are not those that were "
                        "written; delete this commit and resume"
                    )
                yield piece, torch.frombuffer(part, dtype=DTYPES[piece.dtype])


def _neighbours(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Runs of pieces of one file without gaps between their bytes."""
    run: list[Piece] = []
    for piece in pieces:
        if run and run[-1].offset + run[-1].num_bytes != piece.offset:
            yield run
            run = []
        run.append(piece)
    if run:
        yield run


def _read_header(path: Path) -> dict[str, tuple[str, int]]:
    """Type and first byte of each tensor of a safetensors file."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_bytes))
    return {
        name: (entry["dtype"], 8 + header_bytes + entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data
