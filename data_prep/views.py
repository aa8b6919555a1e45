"""Evaluation clips: one or several views of each video, every sample once, and its masks."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sigma_pipeline.data_prep.augment import Crop, centre_square, cut_masks, whole_frame
from sigma_pipeline.data_prep.batches import Batch, Span, as_batch
from sigma_pipeline.data_prep.config import MultiViewConfig, ViewConfig
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.rows import SampleRow
from sigma_pipeline.data_prep.verdicts import BadSample
from sigma_pipeline.data_prep.view_plans import view_crops, view_frames
from sigma_pipeline.data_prep.workers import read_ahead
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage

NO_MASK = 255
"""Object id where nobody said what is there (as in DAVIS)."""

_PREFETCH_BATCHES = 2
_MAX_MASK_PIXELS = 1 << 26  # 8192 x 8192
_MAX_ASPECT_DIFFERENCE = 0.02


class ViewClips:
    """Views by row of the index; picklable, for the decoding processes."""

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
        self.views = view.views if isinstance(view, MultiViewConfig) else 1

    def __getitem__(self, span: Span) -> Batch | StageError:
        """All views of the rows of ``span``; the error when a sample cannot be read."""
        rows = np.arange(span.first, span.last, dtype=np.int64)
        size, views = self._frame_size_px, self.views
        clip = torch.empty(len(rows) * views, 3, self._num_frames, size, size, dtype=torch.uint8)
        self._reader.prefetch(rows.tolist())
        try:
            for slot, row in enumerate(rows.tolist()):
                self._cut(row, clip[slot * views : (slot + 1) * views])
        except BadSample as error:
            return StageError(str(error))
        except StageError as error:
            return error
        positions = np.arange(span.first * views, span.last * views, dtype=np.int64)
        return as_batch(clip, span.epoch, positions, np.repeat(rows, views), self._labels)

    def _cut(self, row: int, out: UInt8[Tensor, "views 3 frames size size"]) -> None:
        """Fills ``out`` with clip after clip, each with all its squares."""
        crops = view_crops(*self._reader.size(row), self._view)
        clips = view_frames(self._reader.num_frames(row), self._num_frames, self._view)
        # As one long clip, so that the video is read once and no frame is decoded twice.
        squares = self._reader.clips(row, np.concatenate(clips), crops, self._frame_size_px)
        clip_shape = out.shape[1:]
        by_clip = squares.view(len(crops), 3, len(clips), *clip_shape[1:]).movedim(2, 0)
        out.view(len(clips), len(crops), *clip_shape).copy_(by_clip)


class ViewLoader:
    """Batches of evaluation clips in the order of the index; the last one may be smaller.

    With several views of a video, these stand side by side, a clip's squares innermost, and a batch
    holds all of a video: ``batch_clips`` clips or a little fewer, but never less than one video.
    """

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
        samples = max(1, batch_clips // self._clips.views)
        self._spans = [
            Span(0, first, min(first + samples, len(index)))
            for first in range(0, len(index), samples)
        ]

    def __iter__(self) -> Iterator[Batch]:
        """Every view of every sample once; epoch 0, positions count views, samples are rows.

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
            rectangle = _scaled(_view_crop(row.height, row.width, crop), row, mask.shape)
            result[slot] = cut_masks(mask[None], rectangle, size)[0].numpy()
    return result


def _scaled(crop: Crop, row: SampleRow, mask_shape: tuple[int, ...]) -> Crop:
    """Where ``crop`` of a frame lies in a mask of this height and width."""
    down, right = mask_shape[0] / row.height, mask_shape[1] / row.width
    top, left = round(crop.top * down), round(crop.left * right)
    bottom, end = round((crop.top + crop.height) * down), round((crop.left + crop.width) * right)
    return Crop(top, left, bottom - top, end - left)


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
