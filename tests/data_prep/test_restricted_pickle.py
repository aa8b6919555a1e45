"""Pickles read without running what they ask for."""

import os
import pickle
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from sigma_pipeline.data_prep.restricted_pickle import RefusedPickleError, read_table

TABLE = {
    "filenames": ["a.png", "b.png"],
    "fine_labels": [3, 99],
    "data": np.arange(12, dtype=np.uint8).reshape(2, 6),
}


class Python2Pickler(pickle._Pickler):  # type: ignore[misc,name-defined]
    """Stores bytes and texts as Python 2 did: with an opcode that does not tell them apart."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def _save_python2(self, value: bytes | str) -> None:
        data = value.encode() if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = _save_python2


class Calls:
    """Pickled, it asks for ``function(*arguments)``, which is then given ``state``."""

    def __init__(
        self, function: Callable[..., object], *arguments: object, state: object = None
    ) -> None:
        self.parts = (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        """What pickle stores."""
        return self.parts


def write(path: Path, value: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def check(table: dict[str, Any]) -> None:
    assert table["fine_labels"] == [3, 99]
    assert table["data"].dtype == np.uint8
    assert table["data"].tolist() == TABLE["data"].tolist()  # type: ignore[attr-defined]


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_arrays_lists_and_texts_come_back(tmp_path: Path, protocol: int) -> None:
    table = read_table(write(tmp_path / "train", TABLE, protocol), 1 << 20)

    check(table)
    assert table["filenames"] == ["a.png", "b.png"]


def test_tables_of_python_2_have_keys_of_text_and_values_of_bytes(tmp_path: Path) -> None:
    with (tmp_path / "train").open("wb") as file:
        Python2Pickler(file, 2).dump(TABLE)

    table = read_table(tmp_path / "train", 1 << 20)

    check(table)
    assert table["filenames"] == [b"a.png", b"b.png"]


def test_arrays_keep_byte_order_and_order_of_axes(tmp_path: Path) -> None:
    values = np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3))

    table = read_table(write(tmp_path / "t", {b"x": values}, 2), 1 << 20)

    assert table["x"].tolist() == values.tolist()


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch evil",), r"(posix|nt)\.system"),
        (eval, ("open('evil', 'w')",), r"builtins\.eval"),
        (subprocess.Popen, (["touch", "evil"],), r"subprocess\.Popen"),
        (getattr, (str, "join"), r"builtins\.getattr"),
    ],
)
def test_a_pickle_that_asks_for_a_function_is_refused_by_its_name_and_not_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[..., object],
    arguments: tuple[object, ...],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "train", {**TABLE, "more": Calls(function, *arguments)}, 4)

    with pytest.raises(RefusedPickleError, match=rf"asks for {name}, which no table"):
        read_table(path, 1 << 20)

    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"x": np.array([{}], dtype=object)}, "arrays of type 'O8' are not read"),
        ({"x": np.zeros(2, dtype=[("a", "u1")])}, "arrays of type 'V1' are not read"),
        ([1, 2], "holds a list, not a dictionary"),
    ],
)
def test_other_than_plain_arrays_in_a_dictionary_is_refused(
    tmp_path: Path, value: object, message: str
) -> None:
    with pytest.raises(RefusedPickleError, match=message):
        read_table(write(tmp_path / "train", value), 1 << 20)


def made_up_array(*state: object) -> Calls:
    """An array in the state that the file wants it to have."""
    rebuild = np.zeros(1).__reduce__()[0]
    assert callable(rebuild)
    return Calls(rebuild, np.ndarray, (0,), b"b", state=state)


# numpy itself believes such states, up to taking bytes for addresses of objects, and crashes.
DTYPE_OF_OBJECTS = Calls(
    np.dtype, "u1", False, True, state=(3, "|", None, None, ("f0",), -1, -1, 63)
)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (made_up_array(1, (1,), np.dtype("u1"), False, [{}]), "numbers are not stored as bytes"),
        (made_up_array(1, (1,), "u1", False, b"x"), "numbers are not stored as bytes"),
        (made_up_array(1, (1,), DTYPE_OF_OBJECTS, False, b"x"), "compound types are not read"),
        (made_up_array(1, (-1,), np.dtype("u1"), False, b"x"), r"shape \(-1,\) has 1 numbers"),
        (made_up_array({"values": [{}]}), "is no whole pickle"),
    ],
)
def test_an_array_in_a_made_up_state_is_refused(
    tmp_path: Path, array: object, message: str
) -> None:
    with pytest.raises(RefusedPickleError, match=message):
        read_table(write(tmp_path / "train", {"data": array}), 1 << 20)


def test_an_array_that_claims_another_shape_is_refused(tmp_path: Path) -> None:
    whole = pickle.dumps({"x": np.zeros((3, 5), np.uint8)}, 2)
    (tmp_path / "train").write_bytes(whole.replace(b"K\x03K\x05\x86", b"K\x63K\x05\x86"))

    with pytest.raises(RefusedPickleError, match=r"shape \(99, 5\) has 15 numbers"):
        read_table(tmp_path / "train", 1 << 20)


@pytest.mark.parametrize("length", [0, 1, 50, 150])
def test_a_damaged_pickle_is_refused(tmp_path: Path, length: int) -> None:
    whole = pickle.dumps(TABLE, 2)
    (tmp_path / "train").write_bytes(whole[:length])

    with pytest.raises(RefusedPickleError, match="is no whole pickle"):
        read_table(tmp_path / "train", 1 << 20)


def test_a_larger_file_than_expected_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(RefusedPickleError, match="the limit is 10"):
        read_table(write(tmp_path / "train", TABLE), 10)
