"""QUVA repetition: videos with the frames at which their cycles end (protocols 10)."""

import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, NoOptions, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, annotation_text, list_entries
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles


def list_quva(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the videos that have a ``<video>.npy`` in the folder of their split.

    The annotation: ``boundaries``, frames from 0 between which the cycles lie (the first cycle
    begins with the video), and ``count``, the number of cycles: one less than the boundaries.
    """
    check_options(dataset, NoOptions)
    lists, flaws = ListFiles(dataset, roots), Flaws()
    entries = [
        entry
        for split, name in lists.splits().items()
        for entry in _entries(lists, name, split, flaws)
    ]
    return list_entries(dataset, SourceFiles(roots), entries, (), flaws, is_unique=True)


def _entries(lists: ListFiles, folder: str, split: str, flaws: Flaws) -> Iterator[Entry]:
    for path in sorted(lists.path(folder, f"splits.{split}").glob("*.npy")):
        where = f"{folder}/{path.name}"
        try:
            ends = _read_ends(path)
        except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
            flaws.add(where, f"is no list of frames: {error}")
            continue
        boundaries = [0, *ends]
        if sorted(set(boundaries)) != boundaries:
            flaws.add(where, f"the cycles' ends {ends} do not ascend")
        annotation = annotation_text({"count": len(ends), "boundaries": boundaries})
        yield Entry(path.stem, split, where, annotation=annotation)


def _read_ends(path: Path) -> list[int]:
    # Mapped, because a header may claim any size; pickled objects are refused.
    values: NDArray[np.integer] = np.load(path, mmap_mode="r", allow_pickle=False)
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{values.dtype} of shape {values.shape}")
    return [int(value) for value in values]
