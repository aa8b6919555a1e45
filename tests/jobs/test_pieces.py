"""Any range of any tensor comes back from the pieces that several writers left."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import LocalStorage, Storage, open_storage
from sigma_pipeline.jobs.pieces import Piece, Wanted
from sigma_pipeline.jobs.tensor_pieces import read_wanted, write_pieces

WHOLE = {"a": torch.arange(40.0), "b": torch.arange(100.0, 130.0)}


def put(
    storage: Storage, folder: Path, file: str, parts: dict[str, tuple[int, int]]
) -> list[Piece]:
    """Writes elements [first, end) of tensors of ``WHOLE`` as one file of the commit ``c``."""
    tensors = {name: WHOLE[name][first:end] for name, (first, end) in parts.items()}
    pieces = write_pieces(folder / file, tensors, {name: parts[name][0] for name in parts})
    storage.upload(folder / file, f"c/{file}")
    return pieces


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    opened = open_storage(str(tmp_path / "store"))
    assert isinstance(opened, LocalStorage)
    return opened


@pytest.fixture
def pieces(tmp_path: Path, store: LocalStorage) -> list[Piece]:
    """Two writers: the first owns all of ``a`` but its end, the second the rest."""
    first = put(store, tmp_path, "0.safetensors", {"a": (0, 25)})
    return first + put(store, tmp_path, "1.safetensors", {"a": (25, 40), "b": (0, 30)})


def read_one(storage: Storage, pieces: list[Piece], want: Wanted) -> Tensor:
    return read_wanted(storage, "c", pieces, [want])[0]


def test_any_range_is_the_slice_of_the_whole(store: Storage, pieces: list[Piece]) -> None:
    ranges = [(start, end - start) for start in range(40) for end in range(start + 1, 41)]

    values = read_wanted(store, "c", pieces, [Wanted("a", *each) for each in ranges])

    for (start, length), value in zip(ranges, values, strict=True):
        assert torch.equal(value, WHOLE["a"][start : start + length])


def test_ranges_come_back_in_the_order_asked_for(store: Storage, pieces: list[Piece]) -> None:
    values = read_wanted(store, "c", pieces, [Wanted("b", 2, 3), Wanted("a", 24, 2)])

    assert [value.tolist() for value in values] == [[102, 103, 104], [24, 25]]


def test_half_precision_and_several_axes_survive(tmp_path: Path, store: Storage) -> None:
    tensor = torch.randn(3, 4).to(torch.bfloat16)
    written = write_pieces(tmp_path / "h.safetensors", {"h": tensor}, {})
    store.upload(tmp_path / "h.safetensors", "c/h.safetensors")

    value = read_one(store, written, Wanted("h", 0, 12))

    assert torch.equal(value, tensor.flatten())


def test_views_of_one_buffer_can_be_written_together(tmp_path: Path) -> None:
    buffer = torch.arange(10.0)

    pieces = write_pieces(tmp_path / "v.safetensors", {"x": buffer[:5], "y": buffer[3:]}, {})

    assert [(piece.tensor, piece.length) for piece in pieces] == [("x", 5), ("y", 7)]


def test_a_range_that_nobody_wrote_is_refused(store: Storage, pieces: list[Piece]) -> None:
    only_first = [piece for piece in pieces if piece.file == "0.safetensors"]

    with pytest.raises(StageError, match="holds a only up to element 25, but elements 20 to 29"):
        read_one(store, only_first, Wanted("a", 20, 10))


def test_a_changed_byte_is_found(store: LocalStorage, pieces: list[Piece]) -> None:
    path = Path(store.uri("c/1.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    with pytest.raises(StageError, match="is damaged at b"):
        read_one(store, pieces, Wanted("b", 0, 1))


def test_a_piece_that_is_not_needed_is_not_read(store: LocalStorage, pieces: list[Piece]) -> None:
    Path(store.uri("c/0.safetensors")).unlink()

    assert read_one(store, pieces, Wanted("a", 25, 5)).tolist() == [25, 26, 27, 28, 29]


def test_neighbouring_pieces_of_a_file_are_read_at_once(
    store: LocalStorage, pieces: list[Piece], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, read = [], LocalStorage.read

    def count(self: LocalStorage, key: str, start: int = 0, length: int | None = None) -> bytes:
        reads.append(key)
        return read(self, key, start, length)

    monkeypatch.setattr(LocalStorage, "read", count)

    read_wanted(store, "c", pieces, [Wanted("a", 30, 5), Wanted("b", 10, 5)])

    assert reads == ["c/1.safetensors"]


def test_pieces_that_overlap_are_each_used_once(store: Storage, pieces: list[Piece]) -> None:
    doubled = [*pieces, replace(pieces[0])]

    assert torch.equal(read_one(store, doubled, Wanted("a", 0, 40)), WHOLE["a"])


def test_a_disk_that_takes_no_file_is_said_as_an_error_of_the_system(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "x.safetensors"

    with pytest.raises(OSError, match=r"x\.safetensors cannot be written: .*No such file"):
        write_pieces(path, {"x": torch.zeros(3)}, {})
