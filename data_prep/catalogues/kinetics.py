"""Kinetics: class folders of clips, listed in one of three forms (protocols 10)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from sigma_pipeline.data_prep.catalogues.class_names import label_entries, read_class_names
from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, check_options, parse_label
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, list_entries
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles

_OFFICIAL = ("youtube_id", "time_start", "time_end")


class KineticsOptions(BaseModel, frozen=True, extra="forbid"):
    """What a recipe may choose."""

    classes: str = ""
    """A file with the names of the classes, one in a line, perhaps numbered."""


def list_kinetics(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the clips of the lists, each of which may have its own form.

    ``class/clip frames label`` (videofolder), ``path label`` (VideoMAE's CSV), or the official CSV
    ``label,youtube_id,time_start,time_end,split``, of which clips are called
    ``<youtube_id>_<start>_<end>`` or ``<youtube_id>``. Without ``options.classes``, the names of
    numbered classes are those of the folders that their clips lie in.
    """
    options = check_options(dataset, KineticsOptions)
    lists, flaws, files = ListFiles(dataset, roots), Flaws(), SourceFiles(roots)
    listed: list[tuple[Entry, str | None]] = []
    for split, name in lists.splits().items():
        listed += _read_list(lists, name, split, files, flaws)
    classes = read_class_names(lists, options.classes, "options.classes") if options.classes else ()
    labelled = label_entries(listed, flaws, classes=classes)
    is_numbered = all(name.isdecimal() for name in labelled.classes)
    names = labelled.classes
    if is_numbered:
        names = _names_of_folders(labelled.entries, names)
    return list_entries(dataset, files, labelled.entries, names, flaws, is_unique=True)


def _read_list(
    lists: ListFiles, name: str, split: str, files: SourceFiles, flaws: Flaws
) -> Iterator[tuple[Entry, str | None]]:
    key = f"splits.{split}"
    first = next(lists.lines(name, key), None)
    if first and _OFFICIAL[0] in first.text:
        yield from _read_official(lists, name, split, files, flaws)
        return
    lines = list(lists.lines(name, key))
    is_videofolder = all(text.split(" ")[-2].isdecimal() for _, text in lines if " " in text)
    for where, text in lines:
        clip, _, label = text.rpartition(" ")
        if is_videofolder:
            clip = clip.rpartition(" ")[0]
        if clip and parse_label(label) is not None:
            yield Entry(clip.rstrip(), split, where), label
        else:
            form = "<class>/<clip> <frames> <label>" if is_videofolder else "<path> <label>"
            flaws.add(where, f"{text!r} is not '{form}'")


def _read_official(
    lists: ListFiles, name: str, split: str, files: SourceFiles, flaws: Flaws
) -> Iterator[tuple[Entry, str | None]]:
    rows = lists.rows(name, f"splits.{split}")
    _, header = next(rows)
    for where, cells in rows:
        row = dict(zip(header, cells, strict=False))
        times = [row.get(column, "") for column in _OFFICIAL[1:]]
        if len(cells) != len(header) or any(parse_label(time) is None for time in times):
            flaws.add(where, f"{','.join(cells)!r} is not '{','.join(header)}'")
            continue
        video = row[_OFFICIAL[0]]
        clip = "_".join([video, *(f"{int(time):06d}" for time in times)])
        path = video if files.find_deeper(video) and not files.find_deeper(clip) else clip
        yield Entry(path, split, where), row.get("label") or None


def _names_of_folders(entries: Sequence[Entry], names: Sequence[str]) -> tuple[str, ...]:
    """Names of labels from the folders of their clips, where the two agree throughout."""
    folders_of: dict[int, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.label is not None:
            folders_of[entry.label].add(entry.path.rpartition("/")[0].rpartition("/")[2])
    folders = [folder for found in folders_of.values() for folder in found]
    is_known = len(set(folders)) == len(folders) == len(folders_of) and all(folders)
    if not is_known:
        return tuple(names)
    return tuple(next(iter(folders_of.get(n, {name}))) for n, name in enumerate(names))
