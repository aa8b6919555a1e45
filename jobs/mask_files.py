"""Object ids in files: ``<folder>/<sequence>/<frame>.png``, as DAVIS and its evaluator lay them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sigma_pipeline.data_prep.pictures import PICTURE_FAULTS, fault_text
from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.jobs.benchmarks.benchmark import VOID_ID
from sigma_pipeline.jobs.benchmarks.davis_metrics import Ids

MAX_PIXELS = 1 << 26  # 8192 x 8192


def sequence_names(folder: Path) -> list[str]:
    """The sequences in a folder, sorted; files beside them do not count.

    Raises:
        MissingInputError: there are none.
    """
    is_there = folder.is_dir()
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if is_there else []
    if not names:
        raise MissingInputError(
            f"{folder} {'holds no folders' if is_there else 'is no folder'}: it must hold one per "
            "sequence, with a PNG per frame"
        )
    return names


def frame_files(folder: Path) -> dict[str, Path]:
    """The PNG files of a sequence by frame name, in order.

    Raises:
        MissingInputError: there are none.
    """
    files = sorted(folder.glob("*.png")) if folder.is_dir() else []
    if not files:
        raise MissingInputError(f"{folder} holds no PNG files: there must be one per frame")
    return {path.stem: path for path in files}


def read_ids(path: Path, size: tuple[int, ...] | None = None) -> Ids:
    """The ids [height, width] in a palette or grey PNG, whose header is checked before its pixels.

    Args:
        path: the file.
        size: the height and width it must have; any up to ``MAX_PIXELS`` if None.

    Raises:
        ConfigError: it is damaged, or no PNG of 8-bit ids, or of another size.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            _check_header(image, path, size)
            return np.array(image)
    except PICTURE_FAULTS as error:
        raise ConfigError(
            f"{path} is no whole PNG picture: {fault_text(error)}; write it again"
        ) from error


def read_stack(paths: Sequence[Path], size: tuple[int, ...] | None = None) -> Ids:
    """The ids in several files of one size, [frames, height, width].

    Raises:
        ConfigError: as ``read_ids``; without ``size``, all must be as large as the first.
    """
    first = read_ids(paths[0], size)
    stack = np.empty((len(paths), *first.shape), dtype=np.uint8)
    stack[0] = first
    for frame, path in enumerate(paths[1:], start=1):
        stack[frame] = read_ids(path, first.shape)
    return stack


def with_binary_as_object(ids: Ids) -> tuple[Ids, bool]:
    """The ids, and whether they were grey masks as those of DAVIS 2016, where 255 is the object.

    In DAVIS 2017 the same 255 is void. A sequence [frames, height, width] that shows nothing but 0
    and 255 would have no object then, which tells the two apart.
    """
    is_object = ids == VOID_ID
    is_binary = bool(is_object.any() and (is_object | (ids == 0)).all())
    return (is_object.astype(np.uint8) if is_binary else ids), is_binary


def _check_header(image: Image.Image, path: Path, size: tuple[int, ...] | None) -> None:
    width, height = image.size
    if image.mode not in ("P", "L"):
        raise ConfigError(
            f"{path} holds {image.mode} pixels: write its ids as an 8-bit palette or grey PNG"
        )
    if width * height > MAX_PIXELS:
        raise ConfigError(
            f"{path} has {width} x {height} pixels, the limit is {MAX_PIXELS}: is it a mask?"
        )
    if size is not None and size != (height, width):
        raise ConfigError(
            f"{path} is {width} x {height}, its sequence {size[1]} x {size[0]}: bring its ids to "
            "that size by nearest neighbour"
        )
