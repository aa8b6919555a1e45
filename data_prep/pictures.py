"""Single pictures: decoded once to see that they are whole."""

import io
import struct
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sigma_pipeline.data_prep.verdicts import Rejected

PICTURE_FAULTS = (
    OSError, SyntaxError, ValueError, ArithmeticError, EOFError, IndexError, KeyError, TypeError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What PIL raises for damaged files of its formats, by trial with thousands of them."""
_VERIFIED_SCALE = 8


class PictureFacts(NamedTuple):
    """What a picture's file holds."""

    suffix: str
    """``.jpg`` or ``.png``, by its content."""
    width: int
    height: int


def check_picture(name: str, data: bytes, max_megapixels: float) -> PictureFacts:
    """What the picture ``data`` is, known to decode to its end; ``name`` is for messages.

    Raises:
        Rejected: it is damaged, too large, or neither JPEG nor PNG.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG", "PNG"])
        width, height = image.size
        if width * height > max_megapixels * 1e6:
            limit = f"the limit is {max_megapixels:g} million"
            raise Rejected("too_large", f"{name} has {width} x {height} pixels, {limit}")
        # Of JPEG, all coefficients are read at any scale; a small one takes a quarter of the time.
        image.draft(None, (width // _VERIFIED_SCALE, height // _VERIFIED_SCALE))
        image.load()
    except Image.DecompressionBombError as error:
        raise Rejected("too_large", f"{name}: {error}") from error
    except PICTURE_FAULTS as error:
        fault = fault_text(error) if data else "it is empty"
        raise Rejected("corrupt", f"{name} is no whole JPEG or PNG picture: {fault}") from error
    return PictureFacts(".png" if image.format == "PNG" else ".jpg", width, height)


def fault_text(error: Exception) -> str:
    """What is wrong with a picture, in the same words on every run."""
    # PIL names the object in memory, which ledgers and their hashes must not depend on.
    is_address = isinstance(error, UnidentifiedImageError)
    return "the content is another" if is_address else str(error)


def rgb_picture(data: bytes) -> NDArray[np.uint8]:
    """The pixels of a picture that was checked, [height, width, 3]."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
