"""CIFAR-100 as its authors pack it: all pictures of a split in one pickle (protocols 10)."""

import io
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_pipeline.data_prep.restricted_pickle import RefusedPickleError, read_table

SIDE_PX = 32
PICTURE_BYTES = 3 * SIDE_PX * SIDE_PX
_MAX_BYTES = 1 << 30
"""The larger of the two files has 155 MB."""


class CifarTable(NamedTuple):
    """One split: what stands at a place in each of the four belongs together."""

    pictures: NDArray[np.uint8]
    """[pictures, 3 colours, 32 rows, 32 columns]."""
    fine_labels: list[int]
    coarse_labels: list[int]
    names: list[str]


def read_cifar(path: Path) -> CifarTable:
    """The pictures and labels in the pickle ``path``.

    Raises:
        RefusedPickleError: it is not such a file, or asks for more than data.
        OSError: it cannot be read.
    """
    table = read_table(path, _MAX_BYTES)
    try:
        pictures, fine, coarse, names = (
            table[key] for key in ("data", "fine_labels", "coarse_labels", "filenames")
        )
    except KeyError as error:
        raise RefusedPickleError(f"{str(path)!r} has no entry {error}") from error
    is_table = isinstance(pictures, np.ndarray) and pictures.dtype == np.uint8
    if not is_table or pictures.shape != (len(fine), PICTURE_BYTES):
        raise RefusedPickleError(
            f"{str(path)!r} does not hold {PICTURE_BYTES} bytes for each of {len(fine)} labels"
        )
    if not len(fine) == len(coarse) == len(names):
        raise RefusedPickleError(
            f"{str(path)!r} has {len(fine)} fine labels, {len(coarse)} coarse labels and "
            f"{len(names)} names"
        )
    return CifarTable(
        pictures.reshape(-1, 3, SIDE_PX, SIDE_PX),
        [int(label) for label in fine],
        [int(label) for label in coarse],
        [_text(name) for name in names],
    )


def read_class_names(path: Path) -> tuple[list[str], list[str]]:
    """Names of the fine and of the coarse classes, from the file ``meta``.

    Raises:
        RefusedPickleError: it is not such a file, or asks for more than data.
        OSError: it cannot be read.
    """
    table = read_table(path, _MAX_BYTES)
    try:
        fine, coarse = table["fine_label_names"], table["coarse_label_names"]
    except KeyError as error:
        raise RefusedPickleError(f"{str(path)!r} has no entry {error}") from error
    return [_text(name) for name in fine], [_text(name) for name in coarse]


def picture_png(path: Path, row: int) -> bytes:
    """One picture of the pickle ``path`` as a PNG file; the whole file is read once a process.

    Raises:
        RefusedPickleError: it is not such a file any more, or has fewer rows.
        OSError: it cannot be read.
    """
    pictures = _pictures(path)
    if row >= len(pictures):
        raise RefusedPickleError(f"{str(path)!r} has {len(pictures)} pictures, none is {row}")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pictures[row].transpose(1, 2, 0))).save(buffer, "PNG")
    return buffer.getvalue()


@lru_cache(maxsize=1)
def _pictures(path: Path) -> NDArray[np.uint8]:
    return read_cifar(path).pictures


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
