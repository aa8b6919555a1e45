"""Evaluation clips and their masks as arrays, decoded once per machine and view.

Every commit is scored on the same clips, so decoding them each time would cost more than encoding
them with a small network. Views that fit are kept on the node's own disk; larger ones are decoded
anew for each encoder.
"""

import fcntl
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.masks import load_masks
from sigma_pipeline.data_prep.view_plans import view_frames
from sigma_pipeline.data_prep.views import ViewLoader
from sigma_pipeline.infra.identity import fingerprint
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.versions import CLIPS_VERSION
from sigma_pipeline.model.config import ModelConfig

log = logging.getLogger(__name__)

KEPT_VIEW_BYTES = 4 << 30
"""Views above this size are not kept on disk."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ClipShape:
    """How an evaluation clip is cut, and how large it is."""

    view: ViewConfig
    num_frames: int
    frame_size_px: int

    @classmethod
    def of(cls, view: ViewConfig, model: ModelConfig) -> Self:
        """As long as the view says, or as the model's own clips, and as large as these."""
        return cls(view, view.num_frames or model.num_frames, model.frame_size_px)


def decoders() -> int:
    """Decoding processes of a task that does else: its threads, but for the one of this process."""
    return max(0, torch.get_num_threads() - 1)


class DecodedView:
    """One split, seen through one view."""

    def __init__(self, storage: Storage, index: Index, shape: ClipShape, scratch_dir: str) -> None:
        self._storage = storage
        self._index = index
        self._shape = shape
        self._folder = Path(scratch_dir) / "views"
        self._name = fingerprint(
            {
                "version": CLIPS_VERSION,
                "dataset": asdict(index.ref),
                "root_hash": index.root_hash,
                "view": shape.view.model_dump(mode="json"),
                "shape": [shape.num_frames, shape.frame_size_px],
            }
        )

    def __len__(self) -> int:
        """Samples of the split."""
        return len(self._index)

    @property
    def views(self) -> int:
        """Clips of each sample."""
        return self._shape.view.views

    def batches(
        self, batch_clips: int, samples: Sequence[range] | None = None, *, decoders: int = 0
    ) -> Iterator[Tensor]:
        """Clips [batch, 3, frames, height, width], each once, in the order of the index.

        All clips of a sample stand side by side.

        Args:
            batch_clips: of a batch, at most, but at least one sample's.
            samples: runs of rows of the index, one after another; no batch goes over the end of a
                run. All rows, as one, when absent.
            decoders: processes that decode what is not kept on disk; 0: this one.

        Raises:
            StageError: a video cannot be read.
        """
        size = self._shape.frame_size_px
        shape = (len(self._index) * self.views, 3, self._shape.num_frames, size, size)
        runs = [range(len(self))] if samples is None else samples
        if prod(shape) > KEPT_VIEW_BYTES:
            yield from self._decoded(batch_clips, runs, decoders)
            return
        clips = self._kept("clips", shape, self._fill_clips)
        step = max(1, batch_clips // self.views)
        for rows in runs:
            for first in range(rows.start, rows.stop, step):
                last = min(first + step, rows.stop)
                yield torch.from_numpy(np.array(clips[first * self.views : last * self.views]))

    def masks(self) -> Pixels:
        """Object ids [samples, frames, height, width] of the frames and crops of the clips."""
        size = self._shape.frame_size_px
        shape = (len(self._index), self._shape.num_frames, size, size)
        return self._kept("masks", shape, self._fill_masks)

    def frames(self) -> npt.NDArray[np.int64]:
        """Frame numbers [samples, frames] of the clips, where there is one of each sample."""
        shape = self._shape
        clips = [
            view_frames(row.frames, shape.num_frames, shape.view, sample)[0]
            for sample, row in enumerate(self._index.rows)
        ]
        return np.stack(clips)

    def _decoded(
        self, batch_clips: int, samples: Sequence[range], decoders: int
    ) -> Iterator[Tensor]:
        loader = ViewLoader(
            self._storage,
            self._index,
            view=self._shape.view,
            num_frames=self._shape.num_frames,
            frame_size_px=self._shape.frame_size_px,
            batch_clips=batch_clips,
            workers=decoders,
            samples=samples,
        )
        for batch in loader:
            yield batch.clip

    def _fill_clips(self, array: Pixels) -> None:
        first = 0
        for clips in self._decoded(16, [range(len(self))], decoders=0):
            array[first : first + len(clips)] = clips.numpy()
            first += len(clips)

    def _fill_masks(self, array: Pixels) -> None:
        shape = self._shape
        for sample, frames in enumerate(self.frames()):
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
