"""Pictures decode to frames with the values that they were stored with."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.data_prep.decode_still import decode_still
from sigma_pipeline.data_prep.verdicts import Rejected

RAMP = np.add.outer(np.arange(48), 3 * np.arange(63)).astype(np.uint8)
PICTURE = np.stack([RAMP // 2, 200 - RAMP // 2, RAMP // 4 + 60], axis=2)


def stored(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(PICTURE).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA"])
def test_png_keeps_every_value(mode: str) -> None:
    data = stored("PNG", mode)

    frame = decode_still(data)

    expected = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
    assert np.array_equal(frame.to_ndarray(format="rgb24"), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_looks_as_pillow_shows_it(mode: str, progressive: bool) -> None:
    data = stored("JPEG", mode, quality=95, progressive=progressive)

    frame = decode_still(data)

    assert (frame.width, frame.height) == (63, 48)
    expected = np.asarray(Image.open(BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(frame.to_ndarray(format="rgb24") - expected).mean() < 3


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", bytes(500), stored("PNG")[:60], stored("JPEG")[:200]]
)
def test_what_is_no_picture_is_rejected(data: bytes) -> None:
    with pytest.raises(Rejected, match="corrupt"):
        decode_still(data)
