"""Evaluation clips and their masks as arrays, decoded once per machine and view.

Every commit is scored on the same clips, so decoding them each time would cost more than encoding
them with a small network. Views that fit are kept on the node's own disk; larger ones are decoded
anew for each encoder.
"""

import fcntl
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sigma_pipeline.data_prep.clips import middle_clip_frames
from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.views import ViewLoader, load_masks
from sigma_pipeline.infra.identity import fingerprint
from sigma_pipeline.infra.storage import Storage

log = logging.getLogger(__name__)

KEPT_VIEW_BYTES = 4 << 30
"""Views above this size are not kept on disk."""
_VERSION = 2  # raised when the same settings would cut other clips

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ClipShape:
    """How an evaluation clip is cut, and how large it is."""

    view: ViewConfig
    num_frames: int
    frame_size_px: int


class DecodedView:
    """One split, seen through one view."""

    def __init__(self, storage: Storage, index: Index, shape: ClipShape, scratch_dir: str) -> None:
        self._storage = storage
        self._index = index
        self._shape = shape
        self._folder = Path(scratch_dir) / "views"
        self._name = fingerprint(
            {
                "version": _VERSION,
                "dataset": asdict(index.ref),
                "root_hash": index.root_hash,
                "view": shape.view.model_dump(mode="json"),
                "shape": [shape.num_frames, shape.frame_size_px],
            }
        )

    def batches(self, batch_clips: int) -> Iterator[Tensor]:
        """Clips [batch, 3, frames, height, width] in the order of the index, each once.

        Raises:
            StageError: a video cannot be read.
        """
        size = self._shape.frame_size_px
        shape = (len(self._index), 3, self._shape.num_frames, size, size)
        if prod(shape) > KEPT_VIEW_BYTES:
            yield from self._decoded(batch_clips)
            return
        clips = self._kept("clips", shape, self._fill_clips)
        for first in range(0, len(clips), batch_clips):
            yield torch.from_numpy(np.array(clips[first : first + batch_clips]))

    def masks(self) -> Pixels:
        """Object ids [samples, frames, height, width] of the frames and crops of the clips."""
        size = self._shape.frame_size_px
        shape = (len(self._index), self._shape.num_frames, size, size)
        return self._kept("masks", shape, self._fill_masks)

    def _decoded(self, batch_clips: int) -> Iterator[Tensor]:
        loader = ViewLoader(
            self._storage,
            self._index,
            view=self._shape.view,
            num_frames=self._shape.num_frames,
            frame_size_px=self._shape.frame_size_px,
            batch_clips=batch_clips,
        )
        for batch in loader:
            yield batch.clip

    def _fill_clips(self, array: Pixels) -> None:
        first = 0
        for clips in self._decoded(batch_clips=16):
            array[first : first + len(clips)] = clips.numpy()
            first += len(clips)

    def _fill_masks(self, array: Pixels) -> None:
        shape = self._shape
        for sample, row in enumerate(self._index.rows):
            frames = middle_clip_frames(row.frames, shape.num_frames, shape.view.frame_stride)
            array[sample] = load_masks(
                self._storage,
                self._index,
                sample,
                frames.tolist(),
                frame_size_px=shape.frame_size_px,
                crop=shape.view.crop,
            )

    def _kept(self, kind: str, shape: tuple[int, ...], fill: Callable[[Pixels], None]) -> Pixels:
        """The array of this kind from disk, read-only; made there first by whoever comes first."""
        path = self._folder / f"{self._name}-{kind}.npy"
        self._folder.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel if this process dies
            if not path.exists():
                log.info("decoding %s of %s once into %s", kind, self._index.ref.prefix, path)
                partial = path.with_suffix(".partial")
                array = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
                fill(array)
                array.flush()
                partial.replace(path)
        kept: Pixels = np.load(path, mmap_mode="r")
        return kept
