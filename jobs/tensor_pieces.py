"""Tensors to and from the pieces of a commit."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.pieces import DamagedCommit, Piece, Wanted, read_checked

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "I64": torch.int64}


def write_pieces(
    path: Path, tensors: Mapping[str, Tensor], starts: Mapping[str, int]
) -> list[Piece]:
    """Writes tensors to a local safetensors file and says where each lies.

    Nothing is copied of tensors that lie contiguously on the CPU.

    Args:
        path: of the file; its name is the pieces' ``file``.
        tensors: the runs of elements, of any shape.
        starts: number of the first element of a run in its flattened tensor; 0 where absent.

    Raises:
        OSError: the file cannot be written, as on a full disk.
    """
    on_cpu = {name: _apart(tensor) for name, tensor in tensors.items()}
    try:
        save_file(on_cpu, path)
    except SafetensorError as error:  # also of what the disk does
        raise OSError(f"{path} cannot be written: {error}") from error
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
    """The wanted ranges, as flat CPU tensors, in the order asked for; every piece is checked.

    Raises:
        DamagedCommit: a range is not covered, or the bytes of a piece are not those written.
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
    contents = {
        piece: torch.frombuffer(part, dtype=_DTYPES[piece.dtype])
        for piece, part in read_checked(storage, folder, needed)
    }
    return [_assemble(want, by_tensor.get(want.tensor, ()), contents) for want in wanted]


def _assemble(want: Wanted, pieces: Iterable[Piece], contents: Mapping[Piece, Tensor]) -> Tensor:
    parts, position = [], want.start
    for piece in sorted(pieces, key=lambda piece: piece.start):
        first, end = want.overlap(piece)
        if first < end and first == position:
            parts.append(contents[piece][first - piece.start : end - piece.start])
            position = end
    if position != want.start + want.length:
        raise DamagedCommit(
            f"the commit holds {want.tensor} only up to element {position}, but elements "
            f"{want.start} to {want.start + want.length - 1} are needed; resume from another commit"
        )
    return torch.cat(parts)


def _apart(tensor: Tensor) -> Tensor:
    """The tensor on the CPU, with a storage that begins and ends where it does.

    Views into one buffer, as optimizer state comes, would be refused as shared tensors.
    """
    on_cpu = tensor.detach().cpu().contiguous()
    own = torch.from_numpy(on_cpu.view(-1).view(torch.uint8).numpy())
    return own.view(on_cpu.dtype).view(on_cpu.shape)


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
