"""Evaluation clips: the middle of each video, every sample exactly once, and its masks."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sigma_pipeline.data_prep.augment import Crop, centre_square, cut, cut_masks, whole_frame
from sigma_pipeline.data_prep.clips import middle_clip_frames
from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.index import Index, SampleRow
from sigma_pipeline.data_prep.loader import Batch, Span, as_batch
from sigma_pipeline.data_prep.workers import read_ahead
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage

NO_MASK = 255
"""Object id where nobody said what is there (as in DAVIS)."""

_PREFETCH_BATCHES = 2
_MAX_MASK_PIXELS = 1 << 26  # 8192 x 8192
_MAX_ASPECT_DIFFERENCE = 0.02


class ViewClips:
    """Middle clips by row of the index; picklable, for the decoding processes."""

    def __init__(
        self,
        reader: FrameReader,
        labels: NDArray[np.int64],
        *,
        view: ViewConfig,
        num_frames: int,
        frame_size_px: int,
    ) -> None:
        self._reader = reader
        self._labels = labels
        self._view = view
        self._num_frames = num_frames
        self._frame_size_px = frame_size_px

    def __getitem__(self, span: Span) -> Batch | StageError:
        """The rows of ``span``; the error when a sample cannot be read."""
        rows = np.arange(span.first, span.last, dtype=np.int64)
        size = self._frame_size_px
        clip = torch.empty(len(rows), 3, self._num_frames, size, size, dtype=torch.uint8)
        try:
            for slot, row in enumerate(rows.tolist()):
                clip[slot] = self._cut(row)
        except StageError as error:
            return error
        return as_batch(clip, span.epoch, rows, rows, self._labels)

    def _cut(self, row: int) -> UInt8[Tensor, "3 frames size size"]:
        num_video_frames = self._reader.num_frames(row)
        wanted = middle_clip_frames(num_video_frames, self._num_frames, self._view.frame_stride)
        frames = self._reader.frames(row, wanted)
        _, height, width, _ = frames.shape
        return cut(frames, _view_crop(height, width, self._view.crop), self._frame_size_px)


class ViewLoader:
    """Batches of evaluation clips in the order of the index; the last one may be smaller."""

    def __init__(
        self,
        storage: Storage,
        index: Index,
        *,
        view: ViewConfig,
        num_frames: int,
        frame_size_px: int,
        batch_clips: int,
        workers: int = 0,
    ) -> None:
        self._clips = ViewClips(
            FrameReader(storage, index),
            index.labels,
            view=view,
            num_frames=num_frames,
            frame_size_px=frame_size_px,
        )
        self._workers = workers
        self._spans = [
            Span(0, first, min(first + batch_clips, len(index)))
            for first in range(0, len(index), batch_clips)
        ]

    def __iter__(self) -> Iterator[Batch]:
        """Every sample once; epoch 0, positions = rows of the index.

        Raises:
            StageError: a sample cannot be read (names it), or a decoding process was killed.
        """
        return read_ahead(
            self._clips, self._spans, workers=self._workers, prefetch=_PREFETCH_BATCHES
        )


def load_masks(
    storage: Storage,
    index: Index,
    sample: int,
    frames: Sequence[int],
    *,
    frame_size_px: int,
    crop: Literal["resize", "centre"],
) -> UInt8[np.ndarray, "frames size size"]:
    """Object ids of the sample's ``frames``, cropped as the view crops them.

    A frame without a mask is ``NO_MASK`` all over. Masks may be of another size than the frames
    (transcoded videos), but not of another shape.

    Raises:
        StageError: a mask is no 8-bit palette or grey PNG, or of the wrong shape, or too large.
    """
    row = index.rows[sample]
    size = frame_size_px
    wanted = set(frames)
    masks = {
        frame: _mask_ids(data, row, frame)
        for frame, data in index.read_masks(storage, sample)
        if frame in wanted
    }
    result = np.full((len(frames), size, size), NO_MASK, dtype=np.uint8)
    for slot, frame in enumerate(frames):
        if (mask := masks.get(frame)) is not None:
            height, width = mask.shape
            rectangle = _view_crop(height, width, crop)
            result[slot] = cut_masks(mask[None], rectangle, size)[0].numpy()
    return result


def _view_crop(height: int, width: int, crop: Literal["resize", "centre"]) -> Crop:
    return centre_square(height, width) if crop == "centre" else whole_frame(height, width)


def _mask_ids(data: bytes, row: SampleRow, frame: int) -> NDArray[np.uint8]:
    """The ids of one PNG, its header checked before its pixels are unpacked."""
    place = f"mask of frame {frame} of sample {row.key} (source {row.source})"
    try:
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            _check_mask(image, row, place)
            return np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise StageError(f"the {place} cannot be read: {error}") from error


def _check_mask(image: Image.Image, row: SampleRow, place: str) -> None:
    """Refuses what is no map of 8-bit ids over the whole frame."""
    width, height = image.size
    if image.mode not in ("P", "L"):
        raise StageError(f"the {place} must be an 8-bit palette or grey PNG, not {image.mode}")
    if width * height > _MAX_MASK_PIXELS:
        raise StageError(
            f"the {place} has {width} x {height} pixels, above the limit of {_MAX_MASK_PIXELS}"
        )
    ratio = width * row.height / (height * row.width)
    if abs(ratio - 1) > _MAX_ASPECT_DIFFERENCE:
        raise StageError(
            f"the {place} is {width} x {height}, but the video {row.width} x {row.height}"
        )
