"""Videos whose frames have object masks, as segmentation of the first mask's objects sees them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.masks import load_whole_masks
from sigma_pipeline.data_prep.rows import SampleRow
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.davis_metrics import MIN_FRAMES, Ids, num_objects
from sigma_pipeline.jobs.mask_files import with_binary_as_object

_PLAIN_NAME = re.compile(r"[\w-][\w .-]*")


@dataclass(frozen=True)
class AnnotatedSequence:
    """One video, from its first mask to its end."""

    sample: int
    """Row of the index."""
    key: str
    name: str
    """Of its folder in results."""
    frames: range
    annotated: Sequence[int]
    """Those of ``frames`` that have a mask, the first among them."""
    truth: Ids
    """[annotated, height, width]; void pixels are ``VOID_ID``."""


@dataclass(frozen=True)
class UselessSequence:
    """A video that nothing can be scored on."""

    name: str
    reason: str
    """To follow on "sequences"."""


def read_sequences(storage: Storage, index: Index) -> Iterator[AnnotatedSequence | UselessSequence]:
    """Each video of the split with its masks, one in memory at a time.

    Sequences that show nothing but 0 and 255 have the one object of DAVIS-2016's grey masks.

    Raises:
        StageError: a mask cannot be read.
    """
    names = sequence_names(index.rows)
    for sample, (row, name) in enumerate(zip(index.rows, names, strict=True)):
        masks = load_whole_masks(storage, index, sample)
        if len(masks) < MIN_FRAMES:
            yield UselessSequence(name, f"have fewer than {MIN_FRAMES} masks")
            continue
        annotated = sorted(masks)
        truth, _ = with_binary_as_object(np.stack([masks[frame] for frame in annotated]))
        if num_objects(truth[0]) == 0:
            yield UselessSequence(name, "show no object in their first mask")
            continue
        frames = range(annotated[0], row.frames)
        yield AnnotatedSequence(sample, row.key, name, frames, annotated, truth)


def sequence_names(rows: Iterable[SampleRow]) -> list[str]:
    """What sequences are called in results: as in DAVIS, the folder that tells them apart.

    The innermost part of the sources' paths that differs from one to any other; the samples' keys
    where there is none, or one of them is no good as a folder's name.
    """
    listed = [(row.key, _parts(row)) for row in rows]
    for depth in range(1, 1 + min((len(parts) for _, parts in listed), default=0)):
        names = [parts[-depth] for _, parts in listed]
        if len(set(names)) == len(names) and all(map(_PLAIN_NAME.fullmatch, names)):
            return names
    return [key for key, _ in listed]


def _parts(row: SampleRow) -> tuple[str, ...]:
    source = PurePosixPath(row.source)
    return (source if row.media == "frames" else source.with_suffix("")).parts
