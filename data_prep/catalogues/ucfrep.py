"""UCFRep: how often, and when, an action of a UCF101 video repeats (protocols 5.2 and 10)."""

import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel

from sigma_pipeline.data_prep.catalogues.frame_lists import FrameFolders, Placed
from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, annotation_text, list_entries
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles

_NAME = re.compile(r"v_(\w+)_g(\d{2})_c\d{2}")
_LAST_TRAIN_GROUP = 20
_MAX_BYTES = 1 << 20
"""A label takes a few thousand."""
# The official lists spell this class in two ways, and so may folders of frames.
_TWICE_SPELLED = ("HandStandPushups", "HandstandPushups")


class UcfRepOptions(BaseModel, frozen=True, extra="forbid"):
    """What a recipe may choose."""

    frames_folder: str = "imgs/{split}"
    """Below it may lie frames, in ``<Class>/<video>/``; elsewise, videos are looked for."""


class Repetitions(NamedTuple):
    """What is marked in one video."""

    video: str
    where: str
    annotation: Mapping[str, object]


def list_ucfrep(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the videos marked in the folder of each split: ``<video>.mat``, or ``<Class>.txt``.

    Text lists hold all splits: groups 1 to 20 are those of a split ``train``, the others of any
    other; videos with a single ``0`` have no repetitions and are not part of the dataset.

    The annotation: ``boundaries``, frames from 0 of the video between which the cycles lie, and
    ``count``, one less than the boundaries. From ``.mat``, also ``offset_next`` and ``offset_pre``:
    for each frame from the first boundary to the last, frames to the same phase of the next and of
    the previous cycle, -1 where there is none.
    """
    options = check_options(dataset, UcfRepOptions)
    lists, flaws, files = ListFiles(dataset, roots), Flaws(), SourceFiles(roots)
    marked = [
        (split, repetitions)
        for split, name in lists.splits().items()
        for repetitions in _read_split(lists, name, split, flaws)
    ]
    classes = sorted({_class_of(found.video) for _, found in marked})
    label_of = {name: label for label, name in enumerate(classes)}
    entries = []
    for split, found in marked:
        folders = FrameFolders(files, options.frames_folder.replace("{split}", split))
        placed = _place(files, folders, found.video)
        label = label_of[_class_of(found.video)]
        annotation = annotation_text(found.annotation)
        entries.append(
            Entry(
                placed.path,
                split,
                found.where,
                label,
                annotation=annotation,
                media=placed.media,
                frames=placed.frames,
            )
        )
    return list_entries(dataset, files, entries, classes, flaws, is_unique=True)


def _place(files: SourceFiles, folders: FrameFolders, video: str) -> Placed:
    """Where ``video`` lies, in either spelling of its class."""
    one, other = _TWICE_SPELLED
    names = [video, video.replace(one, other), video.replace(other, one)]
    for name in names:
        for class_name in (_class_of(video), *_TWICE_SPELLED):
            placed = folders.place_all(name, f"{class_name}/{name}")
            if placed.media == "frames":
                return placed
    found = next((name for name in names if files.find_deeper(name)), video)
    return Placed("video", found)


def _class_of(video: str) -> str:
    match = _NAME.fullmatch(video)
    assert match, "names are checked where they are read"
    return match[1].replace(*_TWICE_SPELLED)


def _read_split(lists: ListFiles, name: str, split: str, flaws: Flaws) -> Iterator[Repetitions]:
    folder = lists.path(name, f"splits.{split}")
    if tables := sorted(folder.glob("*.mat")):
        for path in tables:
            yield from _read_table(path, f"{name}/{path.name}", flaws)
    for path in sorted(folder.glob("*.txt")) if not tables else ():
        for found in _read_text(lists, f"{name}/{path.name}", f"splits.{split}", flaws):
            is_train = int(found.video.rpartition("_g")[2][:2]) <= _LAST_TRAIN_GROUP
            if is_train == (split == "train"):
                yield found


def _read_table(path: Path, where: str, flaws: Flaws) -> Iterator[Repetitions]:
    # It takes a third of a second, which only those who list this dataset have to pay.
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not _NAME.fullmatch(path.stem):
        flaws.add(where, "the name is not v_<Class>_g<group>_c<clip>.mat")
        return
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES} bytes")
        label = loadmat(path, variable_names=["label"])["label"][0, 0]
        boundaries = _integers(label["temporal_bound"])
        offsets = {
            "offset_next": _integers(label["offset_next_estimate"]),
            "offset_pre": _integers(label["offset_pre_estimate"]),
        }
    except (
        MatReadError, OSError, ValueError, TypeError, LookupError, NotImplementedError,
        ArithmeticError, EOFError, MemoryError, struct.error, zlib.error,
    ) as error:  # fmt: skip
        flaws.add(where, f"is no label of UCFRep: {error}")
        return
    yield from _repetitions(path.stem, where, boundaries, flaws, offsets)


def _integers(values: Any) -> list[int]:
    # Stored in the smallest type that holds them: sums of those would overflow.
    return [int(value) for value in np.asarray(values).ravel()]


def _read_text(lists: ListFiles, name: str, key: str, flaws: Flaws) -> Iterator[Repetitions]:
    """Pairs of lines: the name of a video, and its boundaries or a 0."""
    lines = lists.lines(name, key)
    for where, video in lines:
        _, numbers = next(lines, (where, ""))
        if not _NAME.fullmatch(video) or not re.fullmatch(r"\d+( +\d+)*", numbers.strip()):
            flaws.add(where, f"{video!r}, {numbers!r} are not a video's name and its frames")
            return
        boundaries = [int(number) for number in numbers.split()]
        if boundaries != [0]:
            yield from _repetitions(video, where, boundaries, flaws, {})


def _repetitions(
    video: str, where: str, boundaries: list[int], flaws: Flaws, more: Mapping[str, object]
) -> Iterator[Repetitions]:
    """With ``boundaries`` that count from 1, as the lists have them."""
    if len(boundaries) < 2 or sorted(set(boundaries)) != boundaries or boundaries[0] < 1:
        flaws.add(where, f"the boundaries {boundaries} are not ascending frames from 1")
        return
    annotation = {
        "count": len(boundaries) - 1,
        "boundaries": [frame - 1 for frame in boundaries],
        **more,
    }
    yield Repetitions(video, where, annotation)
