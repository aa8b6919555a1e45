"""From decoded frames to a clip: cut, resized and converted to RGB inside libav.

libswscale resizes bilinearly with the filter widened when it shrinks, as pillow does, and takes the
frame's own matrix and range of colours. It gives planes, which is several times quicker than
interleaved pixels and how a clip is laid out. Integer arithmetic: the same bytes each time on the
same machine, whatever the number of clips.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from sigma_pipeline.data_prep.augment import Crop
from sigma_pipeline.data_prep.verdicts import Rejected

Frames = Mapping[int, VideoFrame]
"""Decoded frames by number."""
_CHANNEL_OF_PLANE = (1, 2, 0)  # libav's "gbrp"
_KEPT_FILTERS = 32


class Picture(NamedTuple):
    """What frames look like: height and width when upright, and how to turn them so."""

    height: int
    width: int
    rotation: int
    """Degrees anticlockwise that turn a frame upright: 0, 90, 180 or 270."""

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) of a frame before it is turned."""
        is_tall = self.rotation % 180
        return (self.height, self.width) if is_tall else (self.width, self.height)

    def stored(self, crop: Crop) -> Crop:
        """Where the upright ``crop`` lies before it is turned."""
        bottom = self.height - crop.top - crop.height
        right = self.width - crop.left - crop.width
        match self.rotation:
            case 90:
                return Crop(crop.left, bottom, crop.width, crop.height)
            case 180:
                return Crop(bottom, right, crop.height, crop.width)
            case 270:
                return Crop(right, crop.top, crop.width, crop.height)
        return crop


class Converter:
    """Cuts and resizes clips. Keeps what libav would set up anew for each; pickled, it is empty."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()
        self._filters: dict[tuple[str, int, int], _CropFilter] = {}

    def __reduce__(self) -> tuple[type["Converter"], tuple[()]]:
        """What is kept belongs to the process."""
        return type(self), ()

    def fill(
        self,
        clip: UInt8[Tensor, "3 frames height width"],
        frames: Frames,
        wanted: Sequence[int],
        *,
        picture: Picture,
        crop: Crop,
    ) -> None:
        """Writes the crop of the ``wanted`` frames into ``clip``, resized to its height and width.

        Args:
            clip: may be a part of a larger tensor.
            frames: by number; of another size than ``picture`` where a video changes it on the way.
            wanted: a number for each frame of the clip; they may repeat.
            picture: what the video as a whole is known to be.
            crop: of the upright picture, in its pixels.

        Raises:
            Rejected: libav cannot convert a frame.
        """
        pixels = clip.numpy()
        area, turns = picture.stored(crop), picture.rotation // 90
        width, height = picture._replace(height=clip.shape[-2], width=clip.shape[-1]).stored_size
        done: dict[int, int] = {}
        try:
            for slot, number in enumerate(wanted):
                if number in done:
                    pixels[:, slot] = pixels[:, done[number]]
                    continue
                part = self._cut(frames[number], picture.stored_size, area)
                resized = self._scaler.reformat(part, width, height, "gbrp", threads=1)
                for channel, plane in zip(_CHANNEL_OF_PLANE, resized.planes, strict=True):
                    values = _pixels(plane, height, width)
                    pixels[channel, slot] = np.rot90(values, turns) if turns else values
                done[number] = slot
        except av.FFmpegError as error:
            raise Rejected("corrupt", f"a frame cannot be converted: {error.strerror}") from error
        if crop.is_flipped:
            clip.copy_(clip.flip(-1))

    def _cut(self, frame: VideoFrame, size: tuple[int, int], area: Crop) -> VideoFrame:
        """The area of ``frame``, which is taken at ``size``, as a view of its memory."""
        if (frame.width, frame.height) != size:
            frame = VideoReformatter().reformat(frame, *size, threads=1)
        if (area.width, area.height) == size:
            return frame
        kind = frame.format.name, *size
        if kind not in self._filters:
            if len(self._filters) >= _KEPT_FILTERS:
                self._filters.clear()
            self._filters[kind] = _CropFilter(frame)
        return self._filters[kind].cut(frame, area)


class _CropFilter:
    """libav's crop filter for frames of one size and format."""

    def __init__(self, frame: VideoFrame) -> None:
        self._graph = Graph()  # has to live as long as its parts
        self._graph.threads = 1
        self._source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)
        )
        # Where colour has less resolution, libav would move odd offsets, were it not "exact".
        self._crop = self._graph.add("crop", f"{frame.width}:{frame.height}:exact=1")
        self._sink = self._graph.add("buffersink")
        self._graph.link_nodes(self._source, self._crop, self._sink).configure()
        self._area: Crop | None = None

    def cut(self, frame: VideoFrame, area: Crop) -> VideoFrame:
        if area != self._area:
            # Quicker than another filter by far.
            for name, value in zip(
                "whxy", (area.width, area.height, area.left, area.top), strict=True
            ):
                self._crop.process_command(name, str(value), 0)
            self._area = area
        self._source.push(frame)
        part = self._sink.pull()
        assert isinstance(part, VideoFrame)
        return part


def _pixels(plane: VideoPlane, height: int, width: int) -> NDArray[np.uint8]:
    """A plane without the padding of its rows."""
    values = np.frombuffer(memoryview(plane), np.uint8)
    if len(values) == height * width:
        return values.reshape(height, width)
    return values.reshape(height, -1)[:, :width]


def decoded_bytes(frames: Frames) -> int:
    """Memory that ``frames`` take."""
    return sum(plane.buffer_size for frame in frames.values() for plane in frame.planes)
