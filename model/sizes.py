"""Named sizes of encoder and decoder (protocols 1.1; ViT-Ti is ours)."""

from typing import Literal, get_args

SizeName = Literal["vit_ti", "vit_s", "vit_b", "vit_l", "vit_h"]

Size = dict[str, int]
"""``embed_dim``, ``depth`` and ``num_heads`` of a stack of blocks."""


def _size(embed_dim: int, depth: int, num_heads: int) -> Size:
    return {"embed_dim": embed_dim, "depth": depth, "num_heads": num_heads}


ENCODERS: dict[SizeName, Size] = {
    "vit_ti": _size(192, 12, 3),
    "vit_s": _size(384, 12, 6),
    "vit_b": _size(768, 12, 12),
    "vit_l": _size(1024, 24, 16),
    "vit_h": _size(1280, 32, 16),
}
DECODERS: dict[SizeName, Size] = {
    "vit_ti": _size(96, 4, 3),
    "vit_s": _size(192, 4, 3),
    "vit_b": _size(384, 4, 6),
    "vit_l": _size(512, 4, 8),
    "vit_h": _size(640, 4, 8),
}


def size_name(given: str) -> SizeName:
    """The name as one of the known ones.

    Raises:
        ValueError: it is none of them.
    """
    for name in get_args(SizeName):
        if given == name:
            known: SizeName = name
            return known
    raise ValueError(f"{given!r} is no size; sizes are {', '.join(get_args(SizeName))}")
