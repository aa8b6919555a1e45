"""Facts about videos by their packets, against those by decoding."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from sigma_pipeline.data_prep.config import LimitsConfig
from sigma_pipeline.data_prep.contents import describe
from sigma_pipeline.data_prep.decode_packets import read_packets
from sigma_pipeline.data_prep.probe import (
    Probe,
    examine,
    examine_packets,
    frame_times_s,
    probe,
    probe_of_packets,
)
from sigma_pipeline.data_prep.source_tree import find_files
from sigma_pipeline.data_prep.verdicts import Rejected

LIMITS = LimitsConfig()
FOUND_BY_DECODING_ONLY = {"odd/corrupt/corrupted.mp4", "odd/corrupt/no_timescale.mp4"}
NOT_TOLD_BY_PACKETS = {
    "odd/codecs/test_video_66x50.mov",  # an edit list leaves out frames
    "odd/gif/circle.gif",
}


def written(codec: str, container: str, options: dict[str, str], max_b_frames: int = 0) -> bytes:
    """30 frames of 64x48 pixels of noise that moves, a keyframe each 12."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 128, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.gop_size, stream.codec_context.max_b_frames = 12, max_b_frames
        stream.codec_context.thread_count = 1
        for left in range(30):
            picture = np.ascontiguousarray(noise[:, left : left + 64])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def by_packets(data: bytes, min_frames: int = 2, limits: LimitsConfig = LIMITS) -> Probe | None:
    facts = examine_packets(data, min_frames, limits)
    return facts and probe_of_packets(facts)


@pytest.mark.parametrize(
    ("codec", "container", "max_b_frames"),
    [
        ("libx264", "mp4", 2),
        ("libx264", "matroska", 2),
        ("mpeg4", "mp4", 2),
        ("mpeg4", "avi", 0),
        ("libvpx", "webm", 0),
        ("libvpx-vp9", "webm", 0),
    ],
)
def test_packets_tell_what_decoding_tells(codec: str, container: str, max_b_frames: int) -> None:
    data = written(codec, container, {}, max_b_frames)

    facts = examine_packets(data, 2, LIMITS)
    assert facts
    assert probe_of_packets(facts) == probe(data, 2)
    assert len(facts.keyframes) >= 3
    assert frame_times_s(facts) == frame_times_s(examine(data, 2, LIMITS))


@pytest.mark.parametrize(
    ("codec", "container", "options", "max_b_frames"),
    [
        ("libx264", "mp4", {"x264-params": "intra-refresh=1:keyint=12"}, 0),
        ("libx264", "mp4", {"x264-params": "open-gop=1:keyint=12:bframes=2"}, 2),
        ("libx264", "mp4", {"x264-params": "interlaced=1"}, 0),
        ("mpeg4", "avi", {}, 2),
        ("mpeg2video", "mpegts", {}, 0),
        ("mpeg1video", "matroska", {}, 0),
    ],
    ids=["refreshed bit by bit", "open groups", "fields", "reordered AVI", "MPEG-TS", "codec"],
)
def test_of_what_is_not_plain_nothing_is_said(
    codec: str, container: str, options: dict[str, str], max_b_frames: int
) -> None:
    data = written(codec, container, options, max_b_frames)

    assert read_packets(data, LIMITS.frames) is None
    assert probe(data, 2).frames == 30


@pytest.mark.parametrize(("codec", "mark"), [("libvpx", 0x10), ("libvpx-vp9", 0x02)])
def test_a_frame_that_is_not_shown_leaves_it_to_decoding(codec: str, mark: int) -> None:
    data = written(codec, "webm", {"lag-in-frames": "0"})
    with av.open(io.BytesIO(data)) as container:
        packet = [bytes(packet) for packet in container.demux(video=0)][5]
    hidden = bytes([packet[0] ^ mark]) + packet[1:]

    assert read_packets(data, LIMITS.frames)
    assert read_packets(data.replace(packet, hidden), LIMITS.frames) is None


def test_a_file_cut_short_or_past_a_limit_is_left_to_decoding() -> None:
    data = written("libx264", "mp4", {})

    assert by_packets(data)
    assert not by_packets(data[:-1000])
    assert not by_packets(data, min_frames=31)
    assert not by_packets(data, limits=LimitsConfig(frames=29))
    assert not by_packets(data, limits=LimitsConfig(megapixels=0.003))
    assert not by_packets(b"")
    assert not by_packets(b"text")


def test_a_keyframe_that_cannot_be_sought_leaves_it_to_decoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = written("libx264", "mp4", {})
    monkeypatch.setattr(
        "sigma_pipeline.data_prep.decode_packets.bisect_left", lambda times, time: len(times) - 1
    )

    assert read_packets(data, LIMITS.frames) is None


@pytest.mark.slow
def test_real_videos_have_the_same_facts_by_packets_as_by_decoding(real_videos: Path) -> None:
    damaged, untold, agreed = set(), set(), 0
    for file in (*find_files(real_videos / "actions"), *find_files(real_videos / "odd")):
        folder = Path(file.path).relative_to(real_videos).parts[0]
        data, name = Path(file.path).read_bytes(), f"{folder}/{file.name}"
        if describe(data).kind != "video":
            continue
        found = by_packets(data)
        try:
            facts = probe(data, 2)
        except Rejected:
            damaged |= {name} if found else set()
        else:
            untold |= set() if found else {name}
            agreed += found == facts
            assert found in (None, facts), name

    assert (damaged, untold) == (FOUND_BY_DECODING_ONLY, NOT_TOLD_BY_PACKETS)
    assert agreed >= 140
