"""Picked frames are bit by bit those that decoding the whole video gives, at a fraction of it."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from sigma_pipeline.data_prep import decode_clip
from sigma_pipeline.data_prep.decode_clip import NO_PTS, decoded, pick_frames
from sigma_pipeline.data_prep.decode_open import opened
from sigma_pipeline.data_prep.probe import Probe, probe
from sigma_pipeline.data_prep.verdicts import Rejected

STILL = np.random.default_rng(0).integers(20, 120, (32, 48, 1), np.uint8).repeat(3, axis=2)


def encode(path: Path, frames: int, options: dict[str, str], codec: str = "libx264") -> bytes:
    """Grey noise that brightens."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.options = {"threads": "1", **options}
        for number in range(frames):
            picture = STILL + np.uint8(4 * number % 120)
            container.mux(stream.encode(VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    """48 frames, a keyframe each 16, three frames that nobody refers to between two others."""
    x264 = "keyint=16:min-keyint=16:scenecut=0:bframes=3:b-adapt=0:b-pyramid=none:crf=10"
    return encode(tmp_path / "strided.mp4", 48, {"x264-params": x264})


def content(frame: VideoFrame) -> tuple[object, ...]:
    """All that is shown of a frame, without the padding of its rows."""
    wide = frame.format.components[0].bits > 8
    rows = (
        np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))
        for plane in frame.planes
        if plane.line_size
    )
    sizes = ((1 + wide) * plane.width for plane in frame.planes)
    packed = frame.format.name in ("bgra", "rgba", "gray", "rgb24", "pal8")
    return (
        frame.width,
        frame.height,
        [
            (row if packed else row[:, :size]).tobytes()
            for row, size in zip(rows, sizes, strict=False)
        ],
    )


def all_frames(data: bytes) -> list[tuple[object, ...]]:
    with opened(data) as (container, stream):
        return [content(frame) for frame in decoded(container, stream)]


def picked(data: bytes, wanted: list[int], facts: Probe) -> dict[int, VideoFrame]:
    return pick_frames(data, wanted, keyframes=facts.keyframes, keyframe_pts=facts.keyframe_pts)


def wanted_sets(num_frames: int, draws: np.random.Generator) -> list[list[int]]:
    """A strided clip, a few frames anywhere, the ends, and all."""
    stride, start = int(draws.integers(1, 5)), int(draws.integers(num_frames))
    anywhere = draws.choice(num_frames, min(num_frames, 5), replace=False).tolist()
    return [
        list(range(start, num_frames, stride))[:16],
        anywhere,
        [num_frames - 1, 0],
        list(range(num_frames)),
    ]


def assert_exact(data: bytes, facts: Probe, draws: np.random.Generator) -> None:
    expected = all_frames(data)
    for wanted in wanted_sets(facts.frames, draws):
        found = picked(data, wanted, facts)
        assert found.keys() == set(wanted)
        assert all(content(found[number]) == expected[number] for number in wanted)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("disposable.mp4", "libx264", {"x264-params": "keyint=16:bframes=3:b-adapt=0"}),
        ("pyramid.mkv", "libx264", {"x264-params": "keyint=12:bframes=5:b-pyramid=normal"}),
        ("open.mp4", "libx264", {"x264-params": "keyint=8:open-gop=1:bframes=3:scenecut=0"}),
        ("part2.avi", "mpeg4", {"g": "6", "bf": "2"}),
        ("part2.mp4", "mpeg4", {"g": "6", "bf": "2"}),
        ("transport.ts", "libx264", {"x264-params": "keyint=8:bframes=2"}),
        ("program.mpg", "mpeg2video", {"g": "6", "bf": "2"}),
        ("part2.mkv", "mpeg2video", {"g": "6", "bf": "2"}),
        ("hidden.webm", "libvpx-vp9", {"g": "12", "lag-in-frames": "10", "cpu-used": "8"}),
    ],
)
def test_picked_frames_are_those_of_the_whole_video(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    data = encode(tmp_path / name, 40, options, codec)

    assert_exact(data, probe(data, 2), np.random.default_rng(1))


@pytest.mark.parametrize(
    "folder",
    ["actions/arid/Jump", "actions/weizmann64/wave1", "odd/codecs", "odd/vfr_timing", "odd/gif"],
)
def test_picked_frames_of_real_videos_are_those_of_the_whole(
    real_videos: Path, folder: str
) -> None:
    assert check_folder(real_videos / folder, largest=1 << 19) > 0


@pytest.mark.slow
def test_picked_frames_of_every_real_video_are_those_of_the_whole(real_videos: Path) -> None:
    folders = [real_videos / "actions", real_videos / "odd"]

    assert sum(check_folder(folder, largest=1 << 20) for folder in folders) > 140


def check_folder(folder: Path, largest: int) -> int:
    """How many videos there are."""
    videos = 0
    for number, path in enumerate(sorted(folder.rglob("*"))):
        if path.is_file() and path.stat().st_size <= largest:
            data = path.read_bytes()
            try:
                facts = probe(data, 1)
            except Rejected:
                continue
            assert_exact(data, facts, np.random.default_rng(number))
            videos += 1
    return videos


def test_frames_that_nobody_wants_or_needs_are_not_decoded(
    video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = probe(video, 2)
    frames: list[int] = []
    decode_named = decode_clip._decode_named

    class Counting:
        def __init__(self, context: VideoCodecContext) -> None:
            object.__setattr__(self, "_context", context)

        def __getattr__(self, name: str) -> object:
            return getattr(self._context, name)

        def __setattr__(self, name: str, value: object) -> None:
            setattr(self._context, name, value)

        def decode(self, packet: object) -> list[VideoFrame]:
            found: list[VideoFrame] = self._context.decode(packet)
            frames.extend(frame.pts or 0 for frame in found)
            return found

    monkeypatch.setattr(
        decode_clip,
        "_decode_named",
        lambda context, packets, names: decode_named(Counting(context), packets, names),
    )

    found = picked(video, list(range(4, 45, 4)), facts)

    assert facts.keyframes == (0, 16, 32)
    assert len(found) == 11
    assert len(frames) == 12  # those wanted, and the first keyframe


def test_a_clip_far_into_the_video_leaves_out_what_is_before(
    video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = probe(video, 2)
    monkeypatch.setattr(decode_clip, "_by_counting", lambda data, wanted: {})
    seen: list[int] = []
    group_packets = decode_clip._group_packets

    def noted(*arguments: Any) -> dict[int, Packet]:
        packets = group_packets(*arguments)
        seen.extend(packets)
        return packets

    monkeypatch.setattr(decode_clip, "_group_packets", noted)

    picked(video, [33, 35], facts)

    assert len(seen) == 16
    assert min(seen) == facts.keyframe_pts[2]


@pytest.mark.parametrize("wrong", [(0, 10**9, 2 * 10**9), (0, 1, 2)])
def test_wrong_times_of_keyframes_cost_only_time(video: bytes, wrong: tuple[int, ...]) -> None:
    found = pick_frames(video, [17, 40], keyframes=(0, 16, 32), keyframe_pts=wrong)

    expected = all_frames(video)
    assert {number: content(frame) for number, frame in found.items()} == {
        17: expected[17],
        40: expected[40],
    }


def test_without_reliable_times_frames_are_counted(real_videos: Path) -> None:
    name = "actions/hmdb51/wave/SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi"
    data = (real_videos / name).read_bytes()

    facts = probe(data, 2)

    assert (facts.keyframes, facts.keyframe_pts) == ((0,), (NO_PTS,))
    assert_exact(data, facts, np.random.default_rng(0))


@pytest.mark.parametrize("keyframe_pts", [(0,), (NO_PTS,)])
def test_a_frame_beyond_the_end_is_an_error_that_names_it(
    video: bytes, keyframe_pts: tuple[int, ...]
) -> None:
    with pytest.raises(Rejected, match="frame 48 does not decode"):
        pick_frames(video, [47, 48], keyframes=(0,), keyframe_pts=keyframe_pts)


def test_what_is_no_video_is_rejected() -> None:
    with pytest.raises(Rejected, match="unreadable"):
        pick_frames(bytes(1000), [0], keyframes=(0,), keyframe_pts=(0,))
