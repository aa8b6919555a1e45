"""What stands beside a video and belongs to its sample: an annotation, and object masks."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from sigma_pipeline.data_prep.pictures import PICTURE_FAULTS, fault_text
from sigma_pipeline.data_prep.probe import Probe
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.verdicts import Rejected

_MASK_NAME = re.compile(r"(\d+)\.png")


def read_annotation(files: Sequence[SourceFile]) -> str | None:
    """The annotation among a video's sidecars as JSON text in canonical form, if there is one.

    Raises:
        Rejected: it cannot be read or is not JSON.
    """
    for file in files:
        if file.name.endswith(".json"):
            try:
                value = json.loads(Path(file.path).read_bytes())
            except (OSError, ValueError, RecursionError) as error:
                raise Rejected("bad_sidecar", f"{_short(file)} is not JSON: {error}") from error
            # Escaped, because JSON may hold halves of surrogate pairs, which parquet refuses.
            return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return None


def read_masks(files: Sequence[SourceFile], probe: Probe) -> dict[int, bytes]:
    """The masks among a video's sidecars: PNG files by frame number.

    Raises:
        Rejected: a mask is no picture of object ids, or fits neither the video's size nor length.
    """
    masks: dict[int, bytes] = {}
    for file in files:
        if not file.name.endswith(".json"):
            frame = _frame_number(file, probe.frames)
            if frame in masks:
                raise Rejected("bad_sidecar", f"there are two masks of frame {frame}")
            masks[frame] = _read_mask(file, (probe.width, probe.height))
    return masks


def read_frame_masks(
    files: Sequence[SourceFile], frame_of_stem: Mapping[str, int], size: tuple[int, int]
) -> dict[int, bytes]:
    """The masks among the sidecars of a folder of frames: PNG files by frame number.

    Args:
        files: PNG files that bear the stem of their frame.
        frame_of_stem: place of each frame by its file's name without suffix.
        size: width and height of the frames.

    Raises:
        Rejected: a mask is no picture of object ids, is of another size, or has no frame.
    """
    masks: dict[int, bytes] = {}
    for file in files:
        stem = PurePosixPath(file.name).stem
        if stem not in frame_of_stem:
            raise Rejected("bad_sidecar", f"{_short(file)}: there is no frame of that name")
        masks[frame_of_stem[stem]] = _read_mask(file, size)
    return masks


def resize_mask(mask: bytes, width: int, height: int) -> bytes:
    """The mask at another size; object ids and palette stay as they are."""
    image = Image.open(io.BytesIO(mask))
    if image.size == (width, height):
        return mask
    buffer = io.BytesIO()
    image.resize((width, height), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def _frame_number(file: SourceFile, frames: int) -> int:
    match = _MASK_NAME.fullmatch(PurePosixPath(file.name).name)
    if not match:
        raise Rejected("bad_sidecar", f"{_short(file)} is not named <frame>.png")
    if int(match[1]) >= frames:
        raise Rejected("bad_sidecar", f"{_short(file)}: the video has {frames} frames")
    return int(match[1])


def _read_mask(file: SourceFile, size: tuple[int, int]) -> bytes:
    try:
        data = Path(file.path).read_bytes()
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        if image.size == size:
            image.load()
    except PICTURE_FAULTS as error:
        detail = f"{_short(file)} is not a PNG picture: {fault_text(error)}"
        raise Rejected("bad_sidecar", detail) from error
    if image.size != size:
        raise Rejected("bad_sidecar", f"{_short(file)} has size {image.size}, the video {size}")
    if image.mode not in ("1", "L", "P"):
        raise Rejected("bad_sidecar", f"{_short(file)} holds {image.mode} colours, not object ids")
    return data


def _short(file: SourceFile) -> str:
    return "/".join(PurePosixPath(file.name).parts[-2:])
