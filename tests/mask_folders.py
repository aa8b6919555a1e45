"""Folders of indexed PNGs, as DAVIS has them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sigma_pipeline.jobs.vos_results import palette_png

Ids = npt.NDArray[np.uint8]


def write_sequence(folder: Path, ids: Ids | Mapping[str, Ids]) -> Path:
    """Writes ids [frames, height, width], or by frame name; returns ``folder``."""
    named = ids if isinstance(ids, Mapping) else {f"{i:05d}": frame for i, frame in enumerate(ids)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in named.items():
        (folder / f"{name}.png").write_bytes(palette_png(frame))
    return folder


def two_objects(frames: int = 5, shape: tuple[int, int] = (24, 32)) -> Ids:
    """Object 1 rests at the upper left, object 2 moves along the lower edge; void between them."""
    ids = np.zeros((frames, *shape), dtype=np.uint8)
    ids[:, 2:10, 2:12] = 1
    ids[:, 12, :] = 255
    for frame in range(frames):
        ids[frame, 15:22, 3 + frame : 11 + frame] = 2
    return ids
