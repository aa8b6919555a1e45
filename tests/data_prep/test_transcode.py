"""Re-encoding."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from sigma_pipeline.data_prep.config import LimitsConfig, TranscodeConfig
from sigma_pipeline.data_prep.decode import decode_all, seek_frames
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.probe import (
    examine,
    frames_per_second,
    probe,
    probe_transcoded,
)
from sigma_pipeline.data_prep.transcode import (
    Transcoder,
    scaled_size,
    square_size,
    transcode_pictures,
)
from sigma_pipeline.data_prep.verdicts import Rejected

CONFIG = TranscodeConfig(short_side_px=32, gop_frames=8, crf=10)


def transcoded(data: bytes, config: TranscodeConfig = CONFIG) -> bytes:
    with Transcoder(config) as transcoder:
        facts = examine(data, 2, LimitsConfig(), transcoder.add)
        return transcoder.finish(frames_per_second(facts))


def reference_frames(data: bytes) -> list[float]:
    """Times, in frames, of what decodes without frames that nothing refers to."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = "NONREF"
        assert stream.average_rate
        return [float(frame.time * stream.average_rate) for frame in container.decode(stream)]


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


@pytest.fixture
def ramp() -> NDArray[np.uint8]:
    """30 frames of a ramp, 64x96 pixels; frame n is brighter by 3 * n."""
    frames = np.empty((30, 64, 96, 3), dtype=np.uint8)
    frames[:] = np.linspace(0, 150, 96).astype(np.uint8)[:, None]
    return frames + (3 * np.arange(30, dtype=np.uint8))[:, None, None, None]


@pytest.fixture
def video(tmp_path: Path, ramp: NDArray[np.uint8]) -> bytes:
    """``ramp`` with one keyframe."""
    write_video(tmp_path / "ramp.mp4", ramp, fps=8, crf=0, gop_frames=100)
    return (tmp_path / "ramp.mp4").read_bytes()


def test_the_result_has_the_same_frames_at_the_smaller_size(
    video: bytes, ramp: NDArray[np.uint8]
) -> None:
    small = transcoded(video)

    facts = probe(small, 2)
    assert (facts.frames, facts.width, facts.height, facts.fps) == (30, 48, 32, 8)
    wanted = ramp[:, ::2, ::2].astype(int)
    assert np.abs(decode_all(small, 30) - wanted).mean() < 3


def test_the_same_video_gives_the_same_bytes_whatever_memory_held_before() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (24, 96, 128, 3), dtype=np.uint8)
    first = transcode_pictures(noise, 25, CONFIG)

    for number in range(8):
        _garbage = [bytearray(noise) for _ in range(number)]
        assert transcode_pictures(noise, 25, CONFIG) == first


@pytest.mark.parametrize("disposable", [0, 1, 3])
def test_keyframes_and_frames_to_skip_lie_where_they_should(video: bytes, disposable: int) -> None:
    data = transcoded(video, CONFIG.model_copy(update={"disposable_frames": disposable}))

    facts = probe(data, 2)
    assert facts.keyframes == (0, 8, 16, 24)
    kept = reference_frames(data)
    assert set(range(0, 30, disposable + 1)) <= set(kept)
    assert len(kept) <= 30 / (disposable + 1) + 4 + 1  # and the last of each closed group
    found = probe_transcoded(data, frames=30, frame_grid=disposable + 1)
    assert found == (facts, disposable + 1)
    assert seek_frames(data, {16}, 16, facts.keyframe_pts[2]).keys() == {16}


def test_another_structure_than_asked_for_is_noticed(video: bytes) -> None:
    data = transcoded(video, CONFIG.model_copy(update={"disposable_frames": 3}))

    assert probe_transcoded(data, frames=30, frame_grid=2)[1] == 1
    assert probe_transcoded(data, frames=29, frame_grid=4)[1] == 1


def test_a_rotated_video_is_stored_upright(real_videos: Path) -> None:
    data = (real_videos / "odd/rotated/video_90.mov").read_bytes()
    config = CONFIG.model_copy(update={"short_side_px": 1000, "crf": 1})

    small = transcoded(data, config)

    facts = probe(small, 2)
    assert (facts.width, facts.height, facts.rotation) == (320, 568, 0)
    assert psnr(decode_all(small, 3), decode_all(data, 3)) > 35


@pytest.mark.parametrize("pixels", ["yuvj420p", "yuv420p10le", "yuv444p", "bgra", "yuv420p bt709"])
def test_colours_of_any_kind_look_the_same(pixels: str) -> None:
    data = coloured(*pixels.split())

    small = transcoded(data, CONFIG.model_copy(update={"crf": 1}))

    assert psnr(decode_all(small, 4), decode_all(data, 4)) > 38


def coloured(pixels: str, matrix: str = "") -> bytes:
    """Four smooth lossless pictures from black to white over all hues, 32x64."""
    row, column = np.mgrid[:32, :64]
    hue = np.stack([np.cos(column / 10 + shift) for shift in (0, 2, 4)], axis=-1)
    picture = np.clip(row[..., None] * 8 + 60 * hue, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        codec = "ffv1" if pixels != "yuvj420p" else "mjpeg"
        stream = output.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, pixels
        if codec == "mjpeg":
            stream.options = {"qmin": "1", "qmax": "1"}
            stream.codec_context.color_range = 2
        if matrix:
            stream.codec_context.colorspace = 1
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            if matrix:
                frame = frame.reformat(format=pixels, dst_colorspace="itu709")
            elif codec == "mjpeg":
                frame = frame.reformat(format="yuvj420p", dst_color_range=2)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def test_pixels_become_square(real_videos: Path) -> None:
    data = (real_videos / "actions/kinetics/arm_wrestling/demo.mp4").read_bytes()

    facts = probe(transcoded(data, CONFIG.model_copy(update={"short_side_px": 64})), 2)

    assert (facts.width, facts.height) == (106, 64)  # 340x256 of pixels 64:51


@pytest.mark.parametrize(
    ("aspect", "size"),
    [(Fraction(2), (80, 30)), (Fraction(1, 2), (20, 30)), (Fraction(1, 1000), (40, 30))],
)
def test_the_aspect_of_pixels_goes_into_the_width_unless_it_is_absurd(
    aspect: Fraction, size: tuple[int, int]
) -> None:
    assert square_size(40, 30, aspect) == size


def test_what_h264_cannot_hold_is_rejected() -> None:
    strip = np.zeros((2, 4, 17000, 3), np.uint8)

    with pytest.raises(Rejected, match="too_large: would be 17000x4 pixels"):
        transcode_pictures(strip, 25, CONFIG)


def test_pictures_become_a_video(ramp: NDArray[np.uint8]) -> None:
    data = transcode_pictures(iter(ramp), 0, CONFIG)

    facts = probe(data, 2)
    assert (facts.frames, facts.width, facts.height, facts.fps) == (30, 48, 32, 25)
    assert np.abs(decode_all(data, 30) - ramp[:, ::2, ::2].astype(int)).mean() < 3


@pytest.mark.parametrize(
    ("size", "scaled"),
    [((640, 480), (42, 32)), ((480, 640), (32, 42)), ((20, 30), (20, 30)), ((1, 1), (2, 2))],
)
def test_the_short_side_is_reached_but_never_enlarged(
    size: tuple[int, int], scaled: tuple[int, int]
) -> None:
    assert scaled_size(*size, short_side=32) == scaled
