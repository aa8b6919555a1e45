"""Verdicts on files."""

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sigma_pipeline.data_prep.config import LimitsConfig
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.probe import examine, frame_times_s, probe
from sigma_pipeline.data_prep.verdicts import Rejected


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    """12 times the same noise, 32x48 pixels, a keyframe each 4 frames."""
    picture = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    frames = np.stack([picture] * 12)
    write_video(tmp_path / "noise.mp4", frames, fps=12.5, crf=30, gop_frames=4)
    return (tmp_path / "noise.mp4").read_bytes()


def verdict(data: bytes, min_frames: int = 2) -> Rejected:
    with pytest.raises(Rejected) as caught:
        probe(data, min_frames)
    return caught.value


def written(**options: object) -> bytes:
    """A container with what the options say and nothing else."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        if "sound" in options:
            stream = output.add_stream("aac", rate=44100)
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            samples.sample_rate = 44100
            output.mux(stream.encode(samples))
            output.mux(stream.encode(None))
        for index, pts in enumerate(options.get("pts", ())):  # type: ignore[call-overload]
            if not index:
                video = output.add_stream("mpeg4", rate=30)
                video.width, video.height = 32, 32
                video.codec_context.time_base = Fraction(1, 100)
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 100)
            output.mux(video.encode(frame))
        if "pts" in options:
            output.mux(video.encode(None))
    return buffer.getvalue()


def test_a_video_is_described_by_what_decodes(video: bytes) -> None:
    facts = probe(video, 2)

    assert (facts.frames, facts.width, facts.height, facts.rotation) == (12, 48, 32, 0)
    assert facts.fps == pytest.approx(12.5)
    assert facts.keyframes == (0, 4, 8)
    assert len(facts.keyframe_pts) == 3


def test_the_rate_of_a_video_with_uneven_times_is_its_mean() -> None:
    assert probe(written(pts=[0, 10, 20, 80]), 2).fps == pytest.approx(3 / 0.8)


def test_nothing_is_an_empty_file() -> None:
    assert verdict(b"").reason == "empty_file"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not_a_video"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/x.ts\n", "not_a_video"),
        (bytes(range(256)) * 40, "not_a_video"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "still_image"),
        (b"\0\0\0\x18ftypmp42" + bytes(12), "unreadable"),
    ],
)
def test_what_is_no_video_is_said_to_be_none(data: bytes, reason: str) -> None:
    assert verdict(data).reason == reason


def test_sound_alone_is_no_video() -> None:
    assert (verdict(written(sound=True)).reason, verdict(written(sound=True)).detail) == (
        "no_video_stream",
        "holds audio only",
    )


def test_too_few_frames_are_counted(video: bytes) -> None:
    assert verdict(video, min_frames=13).detail == "frames decoded: 12; needed: 13"
    assert verdict(written(pts=[0])).reason == "too_short"


def test_a_video_cut_short_is_corrupt_even_where_what_is_left_decodes(video: bytes) -> None:
    damaged = verdict(video[:-1000])

    assert damaged.reason == "corrupt"
    assert "cut short, at least 1000 bytes are missing" in damaged.detail


@pytest.mark.parametrize(
    ("limits", "detail"),
    [
        (LimitsConfig(megapixels=0.001), "48x32 pixels, the limit is 1000"),
        (LimitsConfig(frames=11), "more than 11 frames"),
    ],
)
def test_a_video_larger_than_allowed_is_refused(
    video: bytes, limits: LimitsConfig, detail: str
) -> None:
    with pytest.raises(Rejected, match=detail) as caught:
        probe(video, 2, limits)

    assert caught.value.reason == "too_large"


def test_a_file_that_never_ends_is_left_at_the_limit_of_frames(video: bytes) -> None:
    seen: list[int] = []

    with pytest.raises(Rejected, match="more than 5 frames"):
        examine(video, 2, LimitsConfig(frames=5), lambda frame, _: seen.append(frame.pts or 0))

    assert len(seen) == 5


def test_without_timestamps_frames_are_timed_by_the_headers_rate(video: bytes) -> None:
    facts = examine(video, 2, LimitsConfig())
    untimed = replace(facts, pts=[None] * 12, average_rate=4.0)

    assert frame_times_s(facts) == pytest.approx(np.arange(12) / 12.5)
    assert frame_times_s(untimed) == pytest.approx(np.arange(12) / 4)


def test_keyframes_that_cannot_be_sought_are_not_offered(
    video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sigma_pipeline.data_prep.probe.seek_frames", lambda *_: {})

    assert probe(video, 2).keyframes == (0,)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("corrupt/invalid_vp9_bitstream-bug_1416.webm", "too_large"),
        ("corrupt/corrupted.mp4", "corrupt"),
        ("corrupt/short-cenc.mp4", "corrupt"),
        ("no_video/init.mp4", "too_short"),
        ("not_video/._mot.mp4", "not_a_video"),
        ("tiny/FlashVideo.flv", "unreadable"),
    ],
)
def test_real_odd_files_get_their_reason(real_videos: Path, name: str, reason: str) -> None:
    assert verdict((real_videos / "odd" / name).read_bytes()).reason == reason


def test_a_corrupt_video_says_how_many_frames_it_gave(real_videos: Path) -> None:
    data = (real_videos / "odd/corrupt/corrupted.mp4").read_bytes()

    assert verdict(data).detail.startswith("frames decoded: 28; then decoding stops")
