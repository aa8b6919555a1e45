"""Random draws that depend on nothing but their place in the run.

Every draw (start frame, crop, mask) comes from Philox, a counter-based generator (Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3", 2011): the seed and the purpose are its key, the
epoch and the position its counter. So a clip is the same on any rank, worker or machine, and a
resumed run needs no stored generator state.
"""

import hashlib
from functools import lru_cache

import numpy as np


def generator(seed: int, epoch: int, position: int, purpose: str) -> np.random.Generator:
    """The generator of one purpose ("start", "crop", ...) of one position of one epoch.

    Args:
        seed: of the run, any integer.
        epoch: below 2**64, not negative.
        position: place in the order of the epoch, below 2**64, not negative.
        purpose: draws of different purposes are independent of each other.
    """
    return np.random.Generator(_philox(seed, epoch, position, purpose))


def sample_seed(seed: int, epoch: int, position: int, purpose: str) -> int:
    """A 63-bit seed for draws made elsewhere, such as masks; same arguments as ``generator``."""
    return int(_philox(seed, epoch, position, purpose).random_raw()) >> 1


def _philox(seed: int, epoch: int, position: int, purpose: str) -> np.random.Philox:
    # The two low words of the counter stay free: they count the draws.
    return np.random.Philox(counter=[0, 0, position, epoch], key=_key(seed, purpose))


@lru_cache(maxsize=64)
def _key(seed: int, purpose: str) -> int:
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")
