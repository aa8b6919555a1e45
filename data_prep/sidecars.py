"""What stands beside a video and belongs to its sample: an annotation, and object masks."""

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from sigma_pipeline.data_prep.decode import Rejected
from sigma_pipeline.data_prep.probe import Probe
from sigma_pipeline.data_prep.source_tree import SourceFile

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
            frame, data = _read_mask(file, probe)
            if frame in masks:
                raise Rejected("bad_sidecar", f"there are two masks of frame {frame}")
            masks[frame] = data
    return masks


def resize_mask(mask: bytes, width: int, height: int) -> bytes:
    """The mask at another size; object ids and palette stay as they are."""
    image = Image.open(io.BytesIO(mask))
    if image.size == (width, height):
        return mask
    buffer = io.BytesIO()
    image.resize((width, height), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def _read_mask(file: SourceFile, probe: Probe) -> tuple[int, bytes]:
    match = _MASK_NAME.fullmatch(PurePosixPath(file.name).name)
    if not match:
        raise Rejected("bad_sidecar", f"{_short(file)} is not named <frame>.png")
    frame = int(match[1])
    if frame >= probe.frames:
        raise Rejected("bad_sidecar", f"{_short(file)}: the video has {probe.frames} frames")
    try:
        data = Path(file.path).read_bytes()
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        found, wanted = image.size, (probe.width, probe.height)
        if image.size == wanted:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Rejected("bad_sidecar", f"{_short(file)} is not a PNG picture: {error}") from error
    if found != wanted:
        raise Rejected("bad_sidecar", f"{_short(file)} has size {found}, the video {wanted}")
    if image.mode not in ("1", "L", "P"):
        raise Rejected("bad_sidecar", f"{_short(file)} holds {image.mode} colours, not object ids")
    return frame, data


def _short(file: SourceFile) -> str:
    return "/".join(PurePosixPath(file.name).parts[-2:])
