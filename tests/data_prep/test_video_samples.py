"""Samples of parts of videos."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from sigma_pipeline.data_prep import video_samples
from sigma_pipeline.data_prep.config import DatasetConfig, LimitsConfig, TranscodeConfig
from sigma_pipeline.data_prep.decode import decode_all
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.items import Item, Segment
from sigma_pipeline.data_prep.sample import Sample, SampleSettings
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.verdicts import Rejected
from sigma_pipeline.data_prep.video_samples import prepare_video

COPY = SampleSettings(2, transcode=None)
PACKETS = SampleSettings(2, transcode=None, check="packets")
SMALL = SampleSettings(2, TranscodeConfig(short_side_px=32, gop_frames=4, crf=4))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """30 frames of 64x48 pixels at 10 a second, of which frame n is as bright as 8 * n."""
    frames = np.empty((30, 48, 64, 3), np.uint8)
    frames[:] = (8 * np.arange(30))[:, None, None, None]
    write_video(tmp_path / "a.mp4", frames, fps=10, crf=4, gop_frames=6)
    return tmp_path / "a.mp4"


def prepared(path: Path, start_s: float, end_s: float, settings: SampleSettings) -> Sample:
    file = SourceFile(str(path), "a.mp4", path.stat().st_size)
    name = f"a.mp4#{start_s:g}-{end_s:g}"
    segment = Segment(start_s, end_s)
    item = Item(name, "video", (file,), "train", "walk", 2, segment=segment, labels=(2, 5))
    return prepare_video(item, settings)


def test_a_copied_segment_is_the_whole_file_and_a_place_in_it(path: Path) -> None:
    sample = prepared(path, 1.0, 2.5, COPY)

    members = dict(sample.members)
    assert members["mp4"] == path.read_bytes()
    assert (sample.first_frame, sample.probe.frames, sample.frame_grid) == (10, 15, 1)
    assert sample.probe.keyframes == (0, 6, 12, 18, 24)
    description = json.loads(members["json"])
    assert (description["segment"], description["labels"]) == ([1.0, 2.5], [2, 5])


def test_a_transcoded_segment_holds_just_its_frames(path: Path) -> None:
    sample = prepared(path, 1.0, 2.5, SMALL)

    frames = decode_all(dict(sample.members)["mp4"], 30)
    assert (sample.first_frame, sample.probe.frames, sample.frame_grid) == (0, 15, 4)
    assert np.abs(frames.mean((1, 2, 3)) - 8 * np.arange(10, 25)).max() < 3
    assert sample.probe.keyframes == (0, 4, 8, 12)


def test_segments_of_one_file_are_decoded_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    examine = video_samples.examine
    monkeypatch.setattr(video_samples, "examine", lambda *args: calls.append(1) or examine(*args))

    for start_s in (0.0, 1.0, 2.0):
        prepared(path, start_s, start_s + 1, COPY)

    assert len(calls) == 1


def test_with_packets_checked_a_video_is_the_same_sample_without_decoding_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepared(path, 1.0, 2.5, COPY)
    monkeypatch.setattr(video_samples, "examine", None)

    assert prepared(path, 1.0, 2.5, PACKETS) == whole


def test_with_packets_checked_a_frame_damaged_inside_is_let_through(path: Path) -> None:
    data = bytearray(path.read_bytes())
    with av.open(path) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][8]
    data[packet.pos + 4 : packet.pos + packet.size] = b"\xff" * (packet.size - 4)
    path.write_bytes(data)

    with pytest.raises(Rejected, match="corrupt"):
        prepared(path, 1.0, 2.5, COPY)
    assert prepared(path, 1.0, 2.5, PACKETS).probe.frames == 15


def test_a_transcode_is_never_checked_by_packets_alone() -> None:
    with pytest.raises(ValueError, match="check: packets goes with media: copy"):
        DatasetConfig(source="x", media="transcode", transcode=TranscodeConfig(), check="packets")


def test_a_file_cut_short_is_found_by_its_packets_too(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])

    with pytest.raises(Rejected, match="cut short"):
        prepared(path, 1.0, 2.5, PACKETS)


@pytest.mark.parametrize(
    ("segment", "reason"), [((3.5, 4.0), "bad_segment"), ((1.0, 1.1), "too_short")]
)
def test_a_segment_that_is_not_in_the_video_is_rejected(
    path: Path, segment: tuple[float, float], reason: str
) -> None:
    for settings in (COPY, SMALL):
        with pytest.raises(Rejected) as caught:
            prepared(path, *segment, settings)
        assert caught.value.reason == reason


def test_a_file_that_cannot_be_read_now_may_be_read_another_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)

    with pytest.raises(Rejected, match=r"unreadable: a\.mp4 cannot be read: Input") as caught:
        prepared(path, 0, 1, COPY)
    assert caught.value.is_retryable


def test_a_file_larger_than_allowed_is_not_read(path: Path) -> None:
    limits = LimitsConfig(file_gib=1e-9)

    with pytest.raises(Rejected, match="too_large"):
        prepared(path, 0, 1, SampleSettings(2, None, limits))
