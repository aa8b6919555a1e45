"""The C library's allocator, told what a training process is like."""

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_NEVER = -1
_KEPT_BYTES = (128 << 20, 32 << 20)
"""The largest tensor that is kept: what is wanted, and what glibc before 2.35 can do at most. Where
one lay, glibc often finds no place for the next, so that keeping costs about one more of them."""


def keep_freed_memory() -> bool:
    """Keeps what a step frees for the next step, which asks for the same again.

    By itself glibc gives large tensors back to the system at once, and the system fills the next
    ones with zeros, page by page: a tenth of a step on CPUs. Holds for the rest of the process,
    and costs memory that lies between others' (``make bench-model`` tells both).

    Returns:
        Whether the C library does so now; nothing has changed where not.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # The threshold first: without it, never to trim would turn off glibc's own adjustment of it.
    is_kept = any(mallopt(_M_MMAP_THRESHOLD, size) for size in _KEPT_BYTES)
    return is_kept and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
