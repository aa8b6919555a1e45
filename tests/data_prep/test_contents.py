"""What bytes are, and whether some are missing."""

import io

import av
import numpy as np
import pytest

from sigma_pipeline.data_prep.contents import describe, missing_bytes

CODECS = {"mp4": "libx264", "avi": "mpeg4", "matroska": "libx264", "gif": "gif"}


def encoded(container: str, num_frames: int = 6) -> bytes:
    """A small video of grey noise."""
    noise = np.random.default_rng(0)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(CODECS[container], rate=10)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "rgb8" if container == "gif" else "yuv420p"
        for _ in range(num_frames):
            image = noise.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize("container", CODECS)
def test_videos_are_told_by_their_content(container: str) -> None:
    assert describe(encoded(container)).kind == "video"


@pytest.mark.parametrize("container", CODECS)
def test_a_whole_video_misses_nothing(container: str) -> None:
    assert missing_bytes(encoded(container)) == 0


@pytest.mark.parametrize("container", CODECS)
@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.95])
def test_a_video_that_was_cut_short_misses_bytes(container: str, fraction: float) -> None:
    data = encoded(container)

    assert missing_bytes(data[: int(fraction * len(data))]) > 0


@pytest.mark.parametrize("container", CODECS)
def test_bytes_after_the_end_are_no_loss(container: str) -> None:
    assert missing_bytes(encoded(container) + bytes(100)) == 0


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n....", "image"),
        (b"\0\0\0\x18ftypheic", "image"),
        (b"RIFF....WEBPVP8 ", "image"),
        (b"ID3\x04", "audio"),
        (b"PK\x03\x04", "archive"),
        (b"x" * 257 + b"ustar\0", "archive"),
        (b"\0\x05\x16\x07\0\x02", "other"),
        (b"#EXTM3U\nhttp://example.org/x.ts\n", "text"),
        ("\u4e2d\u6587 ".encode() * 2000, "text"),
        ((b"\x47" + b"\0" * 187) * 6, "video"),
        (bytes(5000), "unknown"),
        (b"", "unknown"),
    ],
)
def test_other_contents_are_told_apart(data: bytes, kind: str) -> None:
    assert describe(data).kind == kind


@pytest.mark.parametrize("data", [b"", b"\x1a\x45\xdf\xa3", b"GIF89a", b"\0\0\0\x08ftyp", b"RIFF"])
def test_a_stump_is_measured_without_an_error(data: bytes) -> None:
    assert missing_bytes(data) >= 0
