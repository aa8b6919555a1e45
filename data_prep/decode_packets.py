"""What packets tell of a video, of which just the first frame is decoded.

Reading a file to its end takes a fiftieth of the time of decoding it, and tells as much where each
packet becomes one frame and timestamps say which. Where that is not plain, nothing is said here:
with other containers and codecs than those below, packets that are not shown or are cut by an edit
list, fields, timestamps that are missing or the same.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from sigma_pipeline.data_prep.decode import rotation_of
from sigma_pipeline.data_prep.decode_clip import NO_PTS, VideoPacket
from sigma_pipeline.data_prep.decode_open import quickly_opened
from sigma_pipeline.data_prep.verdicts import Rejected

# Containers whose own sizes tell whether they were cut short, and codecs of which a packet in them
# is a frame.
_CODECS = {
    "mov,mp4,m4a,3gp,3g2,mj2": {"h264", "hevc", "mpeg4", "vp9", "libdav1d"},
    "matroska,webm": {"h264", "hevc", "vp8", "vp9", "libdav1d"},
    "avi": {"mpeg4"},
}
_LOOKED_INTO = frozenset({"mpeg4", "vp8", "vp9"})
_VOP = b"\0\0\1\xb6"  # begins a picture (ISO 14496-2, section 6.2.5)
# Types of NAL units: IDR pictures (ITU-T H.264, table 7-1), IRAP pictures (ITU-T H.265, table 7-1).
_REFRESHING = {"h264": {5}, "hevc": range(16, 22)}
# The picture itself is not looked at.
_CHEAP_DECODING = {"skip_loop_filter": "all"}


@dataclass(frozen=True)
class PacketFacts:
    """What was found without decoding the whole; as in ``decode.Survey``, for an upright frame."""

    codec: str
    container: str
    average_rate: float
    time_base: Fraction
    pts: list[int]
    keyframes: list[int]
    """Frame numbers at which decoding may start."""
    rotation: int
    width: int
    height: int


class _UnclearError(Exception):
    """Packets do not tell."""


@dataclass
class _Packets:
    """What passed by."""

    first: VideoFrame | None = None
    times: list[int] = field(default_factory=list)
    """Of all frames, in the order of decoding."""
    key_times: list[int] = field(default_factory=list)
    is_packed: bool = False
    """Whether some packets hold two frames and others none, as DivX and Xvid write them."""


def read_packets(data: bytes, max_frames: int) -> PacketFacts | None:
    """Reads a file to its end, decodes its first frame and seeks its last keyframe.

    None where packets do not tell what decoding would, where there are more than ``max_frames``, or
    anything is wrong with the file.
    """
    try:
        with quickly_opened(data) as (container, stream):
            context = stream.codec_context
            if context.name not in _CODECS.get(container.format.name, ()):
                return None
            context.options = context.options | _CHEAP_DECODING
            return _facts(container, stream, _read_all(container, stream, max_frames))
    except (av.FFmpegError, Rejected, _UnclearError):
        return None


def _read_all(container: InputContainer, stream: VideoStream, max_frames: int) -> _Packets:
    codec = stream.codec_context.name
    found = _Packets()
    for packet in container.demux(stream):
        if not packet.size and packet.dts is None:
            break  # the end
        time = packet.pts
        if time is None or packet.is_corrupt or packet.is_discard:
            raise _UnclearError
        if codec in _LOOKED_INTO and not _is_frame(codec, bytes(packet), found):
            continue
        if packet.is_keyframe:
            _check_refresh(codec, bytes(packet))
            found.key_times.append(time)
        found.first = found.first or _keyframe(stream.codec_context, packet)
        found.times.append(time)
        if len(found.times) > max_frames:
            raise _UnclearError
    return found


def _is_frame(codec: str, content: bytes, found: _Packets) -> bool:
    """False where AVI marks that nothing is new.

    Raises:
        _UnclearError: it is not plain, or the packet is not shown.
    """
    if codec == "mpeg4":
        pictures = content.count(_VOP)
        if not pictures and len(content) > 1:
            raise _UnclearError
        found.is_packed |= pictures > 1
        return pictures > 0
    if codec == "vp8":
        is_shown = content[0] & 0x10  # RFC 6386, section 9.1
    else:  # VP9 bitstream specification, section 6.2: the bits after marker and profile
        bits = content[0] if content[0] & 0x30 == 0x30 else content[0] >> 1
        shows_another, shows_itself = bits & 0x4, bits & 0x1
        is_superframe = content[-1] & 0xE0 == 0xC0  # whose last frame is shown
        is_shown = shows_another or shows_itself or is_superframe
    if not is_shown:
        raise _UnclearError
    return True


def _check_refresh(codec: str, content: bytes) -> None:
    """Whether decoding may begin at this keyframe.

    Containers mark some as keyframes from which the picture only becomes right after a while.

    Raises:
        _UnclearError: it may not, or its NAL units do not tell.
    """
    if codec not in ("h264", "hevc"):
        return
    place, types = 0, set[int]()
    while place + 4 < len(content):
        types.add(content[place + 4] & 31 if codec == "h264" else content[place + 4] >> 1 & 63)
        place += 4 + int.from_bytes(content[place : place + 4], "big")
    if place != len(content) or types.isdisjoint(_REFRESHING[codec]):
        raise _UnclearError


def _keyframe(context: VideoCodecContext, packet: VideoPacket) -> VideoFrame:
    """The frame of a packet that needs no other."""
    frames = [*context.decode(packet), *context.decode(None)]
    if len(frames) != 1 or not packet.is_keyframe or not frames[0].key_frame:
        raise _UnclearError
    if frames[0].interlaced_frame or frames[0].pict_type != PictureType.I:
        raise _UnclearError
    return frames[0]


def _in_order(times: Sequence[int], key_times: Sequence[int]) -> tuple[list[int], list[int]]:
    """Timestamps and places of keyframes in the order in which frames are shown."""
    if len(set(times)) < len(times):
        raise _UnclearError
    ordered = sorted(times)
    return ordered, sorted(bisect_left(ordered, time) for time in key_times)


def _check_seeking(container: InputContainer, stream: VideoStream, time: int) -> None:
    """Whether a seek to the keyframe of that timestamp brings its packet."""
    container.seek(time, stream=stream)
    for packet in container.demux(stream):
        if packet.pts == time and packet.is_keyframe:
            return
        if packet.pts is None or packet.pts > time:
            break
    raise _UnclearError


def _facts(container: InputContainer, stream: VideoStream, found: _Packets) -> PacketFacts:
    first, has_times = found.first, _has_times(container, stream, found)
    if not first or first.pts != min(found.times):
        raise _UnclearError
    pts, keyframes = [NO_PTS] * len(found.times), [0]
    if has_times:
        pts, keyframes = _in_order(found.times, found.key_times)
    if len(keyframes) > 1:
        _check_seeking(container, stream, pts[keyframes[-1]])
    rotation = rotation_of(first)
    width, height = (first.width, first.height)[:: -1 if rotation % 180 else 1]
    return PacketFacts(
        codec=stream.codec_context.name,
        container=container.format.name,
        average_rate=float(stream.average_rate or 0),
        time_base=stream.time_base or Fraction(0),
        pts=pts,
        keyframes=keyframes,
        rotation=rotation,
        width=width,
        height=height,
    )


def _has_times(container: InputContainer, stream: VideoStream, found: _Packets) -> bool:
    """Whether packets bear the times of frames.

    AVI has none of its own, and what libav makes of its order is wrong for packed frames: there,
    frames are counted, and not found by time.

    Raises:
        _UnclearError: frames are reordered in another way.
    """
    is_reordered = container.format.name == "avi" and stream.codec_context.has_b_frames
    if is_reordered != found.is_packed:
        raise _UnclearError
    return not found.is_packed
