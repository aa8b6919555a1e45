"""Pictures that are decoded to see whether they are whole."""

import contextlib
import io
import zlib

import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.data_prep.pictures import check_picture, rgb_picture
from sigma_pipeline.data_prep.verdicts import Rejected


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode", "suffix"),
    [
        ("JPEG", "RGB", ".jpg"),
        ("JPEG", "L", ".jpg"),
        ("JPEG", "CMYK", ".jpg"),
        ("PNG", "RGBA", ".png"),
        ("PNG", "P", ".png"),
    ],
)
def test_the_content_says_what_a_picture_is(kind: str, mode: str, suffix: str) -> None:
    assert check_picture("a.JPEG", encoded(kind, mode), 1) == (suffix, 40, 24)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_picture_that_ends_early_is_corrupt(kind: str, share: float) -> None:
    whole = encoded(kind)

    with pytest.raises(Rejected, match=r"corrupt: a\.jpg is no whole JPEG or PNG picture"):
        check_picture("a.jpg", whole[: int(len(whole) * share)], 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no whole JPEG or PNG picture: it is empty"),
        (b"no picture", "is no whole JPEG or PNG picture: the content is another$"),
        (encoded("GIF"), "is no whole JPEG or PNG picture"),
        (encoded("BMP"), "is no whole JPEG or PNG picture"),
    ],
)
def test_other_content_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(Rejected, match=message):
        check_picture("a.jpg", data, 1)


def test_a_picture_of_too_many_pixels_is_not_decoded() -> None:
    # Its header alone: were it decoded, it would be found to end early.
    header = encoded("PNG")[:60]

    with pytest.raises(
        Rejected, match=r"too_large: a\.png has 40 x 24 pixels, the limit is 0.0009"
    ):
        check_picture("a.png", header, 0.0009)


def test_a_header_that_claims_more_than_any_picture_has_is_too_large() -> None:
    whole = encoded("PNG")
    header = b"IHDR" + (99999).to_bytes(4) * 2 + whole[24:29]
    claimed = whole[:12] + header + zlib.crc32(header).to_bytes(4) + whole[33:]

    with pytest.raises(Rejected, match="too_large"):
        check_picture("a.png", claimed, 67.2)


@pytest.mark.parametrize("seed", range(4))
def test_damage_of_any_kind_is_a_verdict(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = encoded(("JPEG", "PNG")[seed % 2])
    for _ in range(200):
        data = bytearray(whole[: rng.integers(1, len(whole))])
        for place in rng.integers(0, min(len(data), 300), 6):
            data[place] = rng.integers(256)
        with contextlib.suppress(Rejected):  # any other exception fails
            check_picture("a.jpg", bytes(data), 1)


def test_pixels_are_rgb_whatever_a_picture_holds() -> None:
    pixels = rgb_picture(encoded("PNG", "L"))

    assert pixels.shape == (24, 40, 3)
    assert (pixels[..., 0] == pixels[..., 2]).all()
