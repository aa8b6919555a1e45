"""Evaluation clips: one or several views of each video, every sample once."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from sigma_pipeline.data_prep.batches import Batch, Span, as_batch
from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.verdicts import BadSample
from sigma_pipeline.data_prep.view_plans import view_crops, view_frames
from sigma_pipeline.data_prep.workers import read_ahead
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage

_PREFETCH_BATCHES = 2


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
        self.views = view.views

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
        clips = view_frames(self._reader.num_frames(row), self._num_frames, self._view, row)
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
        samples: Sequence[range] | None = None,
    ) -> None:
        """Takes how clips are cut.

        Args:
            storage: holds the videos.
            index: of the split.
            view: which clips of a video.
            num_frames: of a clip.
            frame_size_px: of its frames, which are squares.
            batch_clips: of a batch, at most, but at least one video.
            workers: processes that decode; 0: this one.
            samples: runs of rows of the index, one after another; no batch goes over the end of a
                run. All rows, as one, when absent.
        """
        self._clips = ViewClips(
            FrameReader(storage, index),
            index.labels,
            view=view,
            num_frames=num_frames,
            frame_size_px=frame_size_px,
        )
        self._workers = workers
        step = max(1, batch_clips // self._clips.views)
        self._spans = [
            Span(0, first, min(first + step, rows.stop))
            for rows in ([range(len(index))] if samples is None else samples)
            for first in range(rows.start, rows.stop, step)
        ]

    def __iter__(self) -> Iterator[Batch]:
        """Every view of every sample once; epoch 0, positions count views, samples are rows.

        Raises:
            StageError: a sample cannot be read (names it), or a decoding process was killed.
        """
        return read_ahead(
            self._clips, self._spans, workers=self._workers, prefetch=_PREFETCH_BATCHES
        )
