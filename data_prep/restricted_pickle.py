"""Tables of the pickle format, such as CIFAR's, read without letting the file run anything.

A pickle names the functions that rebuild its objects. Here each name that numpy's arrays and bytes
need stands for a function of this module, on plain values; every other name is refused. numpy's own
are not called, because a made-up state can corrupt memory through them.
"""

import math
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_DTYPE = re.compile(r"[biu][1248]|f[248]")
_FAULTS = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError,
    ImportError, OverflowError, MemoryError, RecursionError,
)  # fmt: skip


class RefusedPickleError(ValueError):
    """A pickle that asks for more than data, or that is damaged; one sentence says which."""


def read_table(path: Path, max_bytes: int) -> dict[str, Any]:
    """The dictionary in the pickle ``path``: its keys as text, its arrays as numpy's.

    Texts of Python 2 are given as bytes, as they were stored.

    Raises:
        RefusedPickleError: the file is larger than ``max_bytes``, names a function that no table
            needs, is damaged, or holds anything but a dictionary.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise RefusedPickleError(f"{str(path)!r} has {size} bytes, the limit is {max_bytes}")
    with path.open("rb") as file:
        try:
            value = _Unpickler(file, path).load()
        except RefusedPickleError:
            raise
        except _FAULTS as error:
            raise RefusedPickleError(f"{str(path)!r} is no whole pickle: {error}") from error
    if not isinstance(value, dict):
        raise RefusedPickleError(f"{str(path)!r} holds a {type(value).__name__}, not a dictionary")
    return {_text(key): _plain(item) for key, item in value.items()}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, encoding="bytes")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global; never what the name itself would bring."""
        try:
            return _STAND_INS[f"{module}.{name}"]
        except KeyError:
            raise RefusedPickleError(
                f"{str(self._path)!r} asks for {module}.{name}, which no table of numbers and "
                "texts needs; it may be malicious: take the file from its original source"
            ) from None


class _Dtype:
    """What stands for a ``numpy.dtype``: of numbers only."""

    def __init__(self, code: str | bytes, *flags: object) -> None:
        self.code = _text(code)
        if not _DTYPE.fullmatch(self.code):
            raise ValueError(f"arrays of type {self.code!r} are not read")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """(version, byte order, then what only compound types have)."""
        if any(part is not None for part in state[2:5]):
            raise ValueError("arrays of compound types are not read")
        self.code = _text(state[1]).replace("|", "") + self.code


class _Array:
    """What stands for a ``numpy.ndarray`` while it is rebuilt."""

    def __init__(self, *arguments: object) -> None:
        self.values: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """(version, shape, type, whether columns come first, the numbers)."""
        _, shape, dtype, is_fortran, numbers = state
        if not isinstance(dtype, _Dtype) or not isinstance(numbers, bytes):
            raise ValueError("an array's numbers are not stored as bytes")
        values = np.frombuffer(numbers, np.dtype(dtype.code))
        if len(values) != math.prod(shape):
            raise ValueError(f"an array of shape {shape} has {len(values)} numbers")
        self.values = values.reshape(shape, order="F" if is_fortran else "C")


def _encode(text: str, *encoding: object) -> bytes:
    """How Python 3 stores bytes for older readers: as text of as many characters."""
    return text.encode("latin-1")


_STAND_INS: Mapping[str, Any] = {
    "_codecs.encode": _encode,
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
}


def _plain(value: Any) -> Any:
    return value.values if isinstance(value, _Array) else value


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
