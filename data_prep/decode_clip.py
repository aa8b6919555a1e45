"""Just the frames that a clip needs, of a video in memory.

A frame's number is its place in the order in which the decoder gives frames out. Where timestamps
are known to follow that order (``survey`` has compared them), the number is found from those of the
packets, without decoding: the n-th frame after a keyframe is the one with the n-th timestamp. So
what nobody refers to and nobody wants is not decoded, and neither is the rest of a group of
pictures behind the last frame wanted.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple, TypeAlias

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sigma_pipeline.data_prep.decode_open import opened, quickly_opened
from sigma_pipeline.data_prep.verdicts import Rejected

VideoPacket: TypeAlias = "Packet[VideoStream]"

NO_PTS = -(1 << 63)
"""libav's mark for "no timestamp": the first of ``keyframe_pts`` where none can be relied on."""

_END = 1 << 63  # after every timestamp
# Of these, the frames that libav skips as "not referred to" are exactly those. With HEVC, frames of
# a higher temporal layer may refer to them.
_EXACT_SKIPPING = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9"})


class _Group(NamedTuple):
    """A group of pictures: what is shown from one keyframe until the next."""

    first: int
    """Frame number of the keyframe."""
    start_pts: int
    end_pts: int
    frames: int | None
    """None: all there are up to the end of the video."""


def pick_frames(
    data: bytes,
    wanted: Collection[int],
    *,
    keyframes: Sequence[int],
    keyframe_pts: Sequence[int],
) -> dict[int, VideoFrame]:
    """The numbered frames as they are decoded, neither converted nor turned.

    The same ones, bit by bit, as decoding the whole video gives.

    Raises:
        Rejected: a frame is not there, or decoding fails before it.
    """
    numbers = sorted(set(wanted))
    found: dict[int, VideoFrame] = {}
    if keyframe_pts[0] != NO_PTS:
        found = _by_timestamps(data, numbers, keyframes, keyframe_pts)
    if len(found) < len(numbers):
        found = _by_counting(data, frozenset(numbers))
    if len(found) < len(numbers):
        missing = min(set(numbers) - found.keys())
        raise Rejected("corrupt", f"frame {missing} does not decode")
    return found


def packet_times(data: bytes) -> list[int] | None:
    """Timestamps of all packets in ascending order, as ``pick_frames`` sees them.

    None where the header alone is not enough to read packets, one has no timestamp, or two have the
    same.
    """
    try:
        with quickly_opened(data) as (container, stream):
            times = [packet.pts for packet in _packets(container, stream)]
    except (av.FFmpegError, Rejected):
        return None
    known = sorted(time for time in times if time is not None)
    is_clear = len(known) == len(times) and all(a < b for a, b in pairwise(known))
    return known if is_clear else None


def decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """All frames of ``stream``, from where ``container`` stands.

    Raises:
        Rejected: decoding stops; says how many frames there were.
    """
    count = 0
    try:
        for packet in container.demux(stream):
            # AVI marks repeated frames by empty packets, which a decoder would take for the end;
            # the real end is one without a timestamp.
            if packet.size or packet.dts is None:
                for frame in packet.decode():
                    yield frame
                    count += 1
    except av.error.MemoryError as error:
        raise MemoryError from error
    except av.FFmpegError as error:
        detail = f"frames decoded: {count}; then decoding stops: {error.strerror}"
        raise Rejected("corrupt", detail) from error


def _by_counting(data: bytes, wanted: frozenset[int]) -> dict[int, VideoFrame]:
    """Decodes from the beginning until all are found."""
    found: dict[int, VideoFrame] = {}
    with opened(data) as (container, stream):
        for number, frame in enumerate(decoded(container, stream)):
            if number in wanted:
                found[number] = frame
                if len(found) == len(wanted):
                    break
    return found


def _by_timestamps(
    data: bytes, numbers: Sequence[int], keyframes: Sequence[int], keyframe_pts: Sequence[int]
) -> dict[int, VideoFrame]:
    """Goes to each group of pictures that holds wanted frames; incomplete where that fails."""
    found: dict[int, VideoFrame] = {}
    try:
        with quickly_opened(data) as (container, stream):
            for place, wanted in groupby(numbers, lambda number: bisect_right(keyframes, number)):
                group = _group(keyframes, keyframe_pts, place - 1)
                if place > 1:
                    container.seek(group.start_pts, stream=stream)
                packets = _group_packets(container, stream, group)
                times = sorted(time for time in packets if time < group.end_pts)
                names = {times[number - group.first]: number for number in wanted}
                found |= _decode_named(stream.codec_context, packets, names)
    except (av.FFmpegError, IndexError, Rejected):
        return found
    return found


def _group(keyframes: Sequence[int], keyframe_pts: Sequence[int], place: int) -> _Group:
    if place + 1 == len(keyframes):
        return _Group(keyframes[place], keyframe_pts[place], _END, None)
    frames = keyframes[place + 1] - keyframes[place]
    return _Group(keyframes[place], keyframe_pts[place], keyframe_pts[place + 1], frames)


def _group_packets(
    container: InputContainer, stream: VideoStream, group: _Group
) -> dict[int, VideoPacket]:
    """The packets from its keyframe to its last, in the order of decoding, by their timestamps.

    Those that follow the keyframe but are shown before it are left out: they refer to frames of the
    group before. For the same reason some of this group may stand behind the next keyframe.
    """
    packets: dict[int, VideoPacket] = {}
    count = 0
    for packet in _packets(container, stream):
        time = packet.pts
        if time is None:
            return {}
        if time == group.start_pts or (packets and time > group.start_pts):  # a seek may end before
            packets[time] = packet
            count += time < group.end_pts
            if count == group.frames:
                break
    return packets


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[VideoPacket]:
    """Those that hold data: not AVI's marks of repeated frames, nor the one that ends a stream."""
    return (packet for packet in container.demux(stream) if packet.size)


def _decode_named(
    context: VideoCodecContext, packets: Mapping[int, VideoPacket], names: Mapping[int, int]
) -> dict[int, VideoFrame]:
    """The frames of a group whose timestamps are keys of ``names``, by their names."""
    can_skip = context.name in _EXACT_SKIPPING
    remaining = len(names)
    frames: list[VideoFrame] = []
    for time, packet in packets.items():
        is_wanted = time in names
        context.skip_frame = "NONREF" if can_skip and not is_wanted else "DEFAULT"
        frames += context.decode(packet)
        remaining -= is_wanted
        if not remaining:
            break
    frames += context.decode(None)  # those held back for the sake of order
    context.flush_buffers()
    times = {frame.pts: frame for frame in frames}
    return {number: times[time] for time, number in names.items() if time in times}
