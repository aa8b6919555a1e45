"""The colours that DAVIS gives objects, in files and in pictures."""

import numpy as np
import numpy.typing as npt

_ID_BITS = 8


def _palette() -> npt.NDArray[np.uint8]:
    """Bits 0, 3 and 6 of an id are the highest of red, 1, 4 and 7 of green, 2 and 5 of blue.

    The rule is that of PASCAL VOC, and what DAVIS's own files follow.
    """
    ids = np.arange(1 << _ID_BITS)
    colours = np.zeros((len(ids), 3), dtype=np.uint8)
    for bit in range(_ID_BITS):
        channel, rank = bit % 3, bit // 3
        colours[:, channel] |= ((ids >> bit & 1) << (_ID_BITS - 1 - rank)).astype(np.uint8)
    return colours


DAVIS_PALETTE = _palette()
"""RGB [256, 3] by object id."""
