"""DAVIS-2016 and DAVIS-2017: sequences of frames with masks of objects (protocols 7 and 10)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, PositiveFloat

from sigma_pipeline.data_prep.catalogues.frame_lists import masks_in, pictures_in
from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, annotation_text, list_entries
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles
from sigma_pipeline.infra.errors import ConfigError


class DavisOptions(BaseModel, frozen=True, extra="forbid"):
    """What a recipe may choose."""

    frames_folder: str = "JPEGImages/480p"
    """In it lies a folder of frames per sequence, whose name stands for ``{sequence}`` if that is
    part of the path, as in ``{sequence}/images``."""
    annotations_folder: str = "Annotations/480p"
    """The same of the masks; ``Annotations_unsupervised/480p`` for the unsupervised task."""
    fps: PositiveFloat = 24.0
    categories: str = "davis_semantics.json"
    """Names of the objects, ``{sequence: {id: name}}``; may be absent."""


class _Sequence(NamedTuple):
    """One sequence as a list names it."""

    name: str
    split: str
    where: str
    folder: str
    frames: Sequence[str]
    masks: Sequence[str]


def list_davis(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the sequences of lists of names (2017), or of pairs of a frame and its mask (2016).

    The annotation is ``fps`` and, where categories are known, ``objects`` by id.
    """
    options = check_options(dataset, DavisOptions)
    lists, flaws, files = ListFiles(dataset, roots), Flaws(), SourceFiles(roots)
    categories = _read_categories(lists, options.categories)
    entries = []
    for split, name in lists.splits().items():
        for sequence in _read_list(lists, name, split, flaws):
            found = sequence if sequence.frames else _all_pictures(sequence, files, options)
            entries.append(_entry(found, options.fps, categories.get(sequence.name)))
    return list_entries(dataset, files, entries, (), flaws)


def _read_list(lists: ListFiles, name: str, split: str, flaws: Flaws) -> Iterator[_Sequence]:
    where_of: dict[str, str] = {}
    pairs_of: dict[str, list[Sequence[str]]] = defaultdict(list)
    for where, text in lists.lines(name, f"splits.{split}"):
        paths = [path.lstrip("/") for path in text.split()]
        if len(paths) == 1:
            yield _Sequence(paths[0], split, where, "", (), ())
        elif len(paths) == 2:
            folder = paths[0].rpartition("/")[0]
            where_of.setdefault(folder, where)
            pairs_of[folder].append(paths)
        else:
            flaws.add(where, f"{text!r} is neither a sequence nor a frame with its mask")
    for folder, pairs in pairs_of.items():
        frames, masks = zip(*pairs, strict=True)
        if len(set(frames)) < len(frames):
            flaws.add(where_of[folder], f"frames of {folder!r} are listed twice")
        name = folder.rpartition("/")[2]
        yield _Sequence(name, split, where_of[folder], folder, frames, masks)


def _all_pictures(sequence: _Sequence, files: SourceFiles, options: DavisOptions) -> _Sequence:
    """``sequence`` with all frames and masks in its folders; without a frame, the folder lacks."""
    folder = _folder(options.frames_folder, sequence.name)
    masks = masks_in(files, _folder(options.annotations_folder, sequence.name))
    frames = pictures_in(files, folder) or (folder,)
    return sequence._replace(folder=folder, frames=frames, masks=masks)


def _folder(pattern: str, sequence: str) -> str:
    pattern = pattern if "{sequence}" in pattern else f"{pattern}/{{sequence}}"
    return pattern.strip("/").replace("{sequence}", sequence)


def _entry(sequence: _Sequence, fps: float, objects: Mapping[str, object] | None) -> Entry:
    annotation = {"fps": fps} | ({"objects": objects} if objects else {})
    return Entry(
        sequence.folder,
        sequence.split,
        sequence.where,
        annotation=annotation_text(annotation),
        media="frames",
        frames=tuple(sequence.frames),
        sidecars=tuple(sequence.masks),
    )


def _read_categories(lists: ListFiles, name: str) -> dict[str, Mapping[str, object]]:
    """By sequence and id of an object, ``{"category": name}``."""
    if not lists.has(name):
        return {}
    value = lists.json(name, "options.categories")
    if not isinstance(value, dict) or not all(isinstance(of, dict) for of in value.values()):
        raise ConfigError(f"{name} is not of the form {{sequence: {{id: category}}}}")
    return {
        sequence: {number: {"category": category} for number, category in objects.items()}
        for sequence, objects in value.items()
    }
