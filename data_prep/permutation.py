"""Permutations that are computed, not stored.

A Feistel network over a rectangle with at least as many places as there are things, walked on while
it ends outside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
"""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 10
"""Four hide the structure of a large domain; small ones want more."""
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def permute(
    places: NDArray[np.int64], sizes: int | NDArray[np.int64], keys: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Where the permutation of [0, size) that belongs to the keys sends each place.

    Args:
        places: each within [0, its size); elsewhere the walk might never end.
        sizes: below 2**52; one for all places, or one each.
        keys: shape [``ROUNDS``, 1], or [``ROUNDS``, places] for a permutation of its own each.
    """
    limits = np.broadcast_to(np.asarray(sizes, dtype=np.uint64), places.shape)
    keys = np.broadcast_to(keys, (ROUNDS, len(places)))
    columns, rows = _rectangle(limits)
    result = _pass(places.astype(np.uint64), rows, columns, keys)
    # The rectangle has at most 2 sqrt(size) places too many, so few walk and not far.
    while (outside := np.flatnonzero(result >= limits)).size:
        result[outside] = _pass(result[outside], rows[outside], columns[outside], keys[:, outside])
    return result.astype(np.int64)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64: each bit of the result depends on all bits of the value."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def _rectangle(sizes: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Columns and rows: about square, and no smaller than it must be."""
    rows = np.ceil(np.sqrt(sizes)).astype(np.uint64)
    return (sizes + rows - np.uint64(1)) // rows, rows


def _pass(
    places: NDArray[np.uint64],
    rows: NDArray[np.uint64],
    columns: NDArray[np.uint64],
    keys: NDArray[np.uint64],
) -> NDArray[np.uint64]:
    """One pass of the network: a permutation of the rectangle's places."""
    row, column = np.divmod(places, columns)
    for key in keys.reshape(-1, 2, len(places)):
        row = (row + mix(column ^ key[0])) % rows
        column = (column + mix(row ^ key[1])) % columns
    return row * columns + column
