"""What our decoding is measured against: libav by hand, and plain readers as many projects have."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from PIL import Image

from sigma_pipeline.data_prep.augment import Crop

SIZE_PX = 224
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_HEADER_ONLY = {"probesize": "32", "analyzeduration": "1", "codec_whitelist": "none"}

Pictures = list[np.ndarray]


@dataclass(frozen=True)
class Visit:
    """What a clip needs of one group of pictures."""

    start_pts: int
    wanted: frozenset[int]
    """Timestamps."""
    last_pts: int
    """Of the packet that is fed last."""


def visits(data: bytes, numbers: Sequence[int]) -> list[Visit]:
    """Where libav has to go for the frames ``numbers``."""
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    pts = [packet.pts or 0 for packet in packets]
    times = sorted(pts)
    wanted = [times[number] for number in numbers]
    starts = sorted(packet.pts or 0 for packet in packets if packet.is_keyframe)
    found = []
    for start, end in zip(starts, [*starts[1:], times[-1] + 1], strict=True):
        inside = frozenset(time for time in wanted if start <= time < end)
        if inside:
            found.append(Visit(start, inside, [time for time in pts if time in inside][-1]))
    return found


def by_libav(data: bytes, visits: Sequence[Visit], conversions: int) -> None:
    """Decodes just what is wanted, and converts it so many times to a clip of 224 x 224 RGB.

    Opened by the header alone, into planes, by one scaler: the quickest ways there are. The frames
    of a clip stay where libav puts them, and are dropped when the next clip is done.
    """
    frames: list[VideoFrame] = []
    with av.open(io.BytesIO(data), options=_HEADER_ONLY) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.thread_type, context.thread_count = "SLICE", 1
        for visit in visits:
            container.seek(visit.start_pts, stream=stream)
            found: list[VideoFrame] = []
            for packet in _until_last(container.demux(stream), visit):
                context.skip_frame = "DEFAULT" if packet.pts in visit.wanted else "NONREF"
                found += context.decode(packet)
            found += context.decode(None)
            context.flush_buffers()
            frames += [frame for frame in found if frame.pts in visit.wanted]
    assert len(frames) == sum(len(visit.wanted) for visit in visits)
    scaler = VideoReformatter()
    clip: list[VideoFrame] = []
    for _ in range(conversions):
        clip = [scaler.reformat(frame, SIZE_PX, SIZE_PX, "gbrp", threads=1) for frame in frames]
    assert len(clip) in (0, len(frames))


def _until_last(packets: Iterator[Packet], visit: Visit) -> Iterator[Packet]:
    for packet in packets:
        if packet.pts is not None and packet.pts >= visit.start_pts:
            yield packet
        if packet.pts == visit.last_pts:
            return


def by_plain_reader(
    read: Callable[[str, Sequence[int]], Pictures], path: str, numbers: Sequence[int], crop: Crop
) -> np.ndarray:
    """A normalized clip; each frame is cut and resized by pillow."""
    box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
    size = (SIZE_PX, SIZE_PX)
    pictures = [
        np.asarray(Image.fromarray(frame).crop(box).resize(size, Image.Resampling.BILINEAR))
        for frame in read(path, numbers)
    ]
    assert len(pictures) == len(numbers)
    return (np.stack(pictures).astype(np.float32) / 255 - _MEAN) / _STD


def read_by_decord(path: str, numbers: Sequence[int]) -> Pictures:
    """RGB frames."""
    import decord

    reader = decord.VideoReader(path, num_threads=1)
    return list(reader.get_batch(list(numbers)).asnumpy())


def read_by_pyav(path: str, numbers: Sequence[int]) -> Pictures:
    """RGB frames, numbered by their times, decoded from the keyframe before the first."""
    pictures = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type, stream.codec_context.thread_count = "SLICE", 1
        assert stream.average_rate
        assert stream.time_base
        first, tick = stream.start_time or 0, 1 / (stream.average_rate * stream.time_base)
        container.seek(first + round(numbers[0] * tick), stream=stream)
        for frame in container.decode(stream):
            number = round(((frame.pts or 0) - first) / tick)
            if number in numbers:
                pictures.append(frame.to_ndarray(format="rgb24"))
            if number >= numbers[-1]:
                break
    return pictures
