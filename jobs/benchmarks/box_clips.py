"""Clips around marked seconds of movies: one second of a movie while training, all in the test.

A movie is never decoded as a whole: a clip is a few frames around the one that shows its second.
Frames are whole, squashed to the square, so that boxes (parts of width and height) stay as they
are.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from sigma_pipeline.data_prep.augment import whole_frame
from sigma_pipeline.data_prep.clip_plan import ClipPlan
from sigma_pipeline.data_prep.draws import generator
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.hot_columns import ClipSource
from sigma_pipeline.data_prep.marked_seconds import MarkedSecond, MarkedSeconds
from sigma_pipeline.data_prep.verdicts import BadSample
from sigma_pipeline.infra.errors import StageError

CORNERS = 4


def frames_around(
    frame: int, num_video_frames: int, num_frames: int, stride: int
) -> NDArray[np.int64]:
    """``num_frames`` numbers, ``stride`` apart, with ``frame`` as the first of the second half.

    Beyond its ends the first or the last frame of the video is repeated.
    """
    steps = np.arange(num_frames, dtype=np.int64) - num_frames // 2
    return np.clip(frame + steps * stride, 0, num_video_frames - 1)


def box_targets(
    marked: MarkedSecond, *, num_classes: int, max_boxes: int, is_flipped: bool = False
) -> NDArray[np.float32]:
    """[max_boxes, 4 + classes + 1]: corners, what is done, and 1 where there is a box.

    Of more boxes than that the first ones are taken.
    """
    targets = np.zeros((max_boxes, CORNERS + num_classes + 1), dtype=np.float32)
    for row, (corners, labels) in zip(targets, marked.boxes.items(), strict=False):
        x1, y1, x2, y2 = corners
        row[:CORNERS] = (1 - x2, y1, 1 - x1, y2) if is_flipped else corners
        row[[CORNERS + label for label in labels]] = 1
        row[-1] = 1
    return targets


@dataclass(frozen=True)
class BoxPlan(ClipPlan):
    """A clip of a movie is one around a marked second; the target is its boxes.

    Each visit is to another second: all of a movie's in an order of their own, then all in another
    one. An epoch of the order visits each movie once, but for those at its end that make no whole
    step: of these a second is left out.
    """

    seconds: MarkedSeconds
    """Of the samples of the pool; one of each at least."""
    num_classes: int
    max_boxes: int

    def frames(self, sample: int, source: ClipSource, epoch: int, first: int) -> NDArray[np.int64]:
        """See ``ClipPlan``."""
        frame = self._visited(sample, epoch).frame
        return frames_around(frame, source.frames, self.num_frames, self.clip.frame_stride)

    def target(
        self, sample: int, source: ClipSource, epoch: int, first: int, frames: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """As ``box_targets``, mirrored where the clip is."""
        return box_targets(
            self._visited(sample, epoch),
            num_classes=self.num_classes,
            max_boxes=self.max_boxes,
            is_flipped=self.crop(source, epoch, first).is_flipped,
        )

    def _visited(self, sample: int, epoch: int) -> MarkedSecond:
        count = self.seconds.count(sample)
        turn, place = divmod(epoch, count)
        order = generator(self.seed, turn, sample, "second").permutation(count)
        return self.seconds.get(sample, int(order[place]))


class BoxClips:
    """Clips around several seconds of one movie, for the decoding processes. Picklable."""

    def __init__(
        self, reader: FrameReader, *, num_frames: int, stride: int, frame_size_px: int
    ) -> None:
        self._reader = reader
        self._num_frames = num_frames
        self._stride = stride
        self._frame_size_px = frame_size_px

    def __getitem__(
        self, place: tuple[int, NDArray[np.int64]]
    ) -> UInt8[Tensor, "seconds 3 frames size size"] | StageError:
        """Clips around frames [seconds] of a sample; the error when it cannot be read."""
        sample, around = place
        length = self._reader.num_frames(sample)
        wanted = [
            frames_around(frame, length, self._num_frames, self._stride)
            for frame in around.tolist()
        ]
        # As one long clip, so that frames of two seconds are decoded once.
        crops = [whole_frame(*self._reader.size(sample))]
        try:
            clip = self._reader.clips(sample, np.concatenate(wanted), crops, self._frame_size_px)
        except BadSample as error:
            return StageError(str(error))
        except StageError as error:
            return error
        return clip.view(3, len(around), self._num_frames, *clip.shape[-2:]).movedim(1, 0)
