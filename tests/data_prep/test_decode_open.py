"""Opening by the header alone finds the same stream as looking into the file."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from av.container import InputContainer
from av.video.stream import VideoStream

from sigma_pipeline.data_prep.decode_open import opened, quickly_opened
from sigma_pipeline.data_prep.verdicts import Rejected

Open = Callable[[bytes], AbstractContextManager[tuple[InputContainer, VideoStream]]]


@pytest.mark.parametrize(
    "name",
    [
        "actions/arid/Jump/Jump_8_3.mp4",
        "actions/kinetics/flipping_pancake/flipping_a_pancake.mkv",
        "actions/ucf101/Diving/v_Diving_g01_c01.avi",
        "odd/codecs/bbb_480p_vp9_opus_1second.webm",
    ],
)
def test_both_ways_find_the_same_stream_and_its_packets(real_videos: Path, name: str) -> None:
    data = (real_videos / name).read_bytes()
    found = []
    for way in (opened, quickly_opened):
        with way(data) as (container, stream):
            sizes = [packet.size for packet in container.demux(stream)]
            context = stream.codec_context
            about = (stream.index, stream.time_base, context.name, context.width, context.height)
            found.append((about, sizes))
            assert context.thread_count == 1

    assert found[0] == found[1]


@pytest.mark.parametrize("way", [opened, quickly_opened])
def test_other_streams_are_not_taken_for_a_video(real_videos: Path, way: Open) -> None:
    data = (real_videos / "odd/no_video/sine-3s-xhe-aac-44khz-mono.mp4").read_bytes()

    with pytest.raises(Rejected, match="no_video_stream: holds audio only"), way(data):
        pass


@pytest.mark.parametrize("way", [opened, quickly_opened])
def test_what_is_no_container_is_rejected(way: Open) -> None:
    with pytest.raises(Rejected, match="unreadable: cannot be opened"), way(bytes(500)):
        pass


def test_a_header_that_claims_too_many_pixels_is_rejected(real_videos: Path) -> None:
    data = (real_videos / "odd/corrupt/invalid_vp9_bitstream-bug_1416.webm").read_bytes()

    with pytest.raises(Rejected, match="too_large: 12336x12336 pixels"), opened(data):
        pass
