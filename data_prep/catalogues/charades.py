"""Charades: several actions per video, by frame or by second (protocols 5.2 and 10)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, PositiveFloat

from sigma_pipeline.data_prep.catalogues.frame_lists import (
    FrameFolders,
    Placed,
    label_runs,
    read_frame_list,
)
from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, annotation_text, list_entries
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles

_NUM_CLASSES = 157
_NUMBER = re.compile(r"\d+(?:\.\d*)?")
_ACTION = re.compile(rf"c(\d{{3}}) ({_NUMBER.pattern}) ({_NUMBER.pattern})")


class CharadesOptions(BaseModel, frozen=True, extra="forbid"):
    """What a recipe may choose."""

    frames_folder: str = "Charades_v1_rgb"
    """Below it lie the frames, by the paths of the list or in folders named as videos."""
    fps: PositiveFloat = 24.0
    """Frames per second of frame lists and frames; 24 in the official ones."""
    classes: str = "Charades_v1_classes.txt"
    """``c000 Holding some clothes``; where it is absent, classes are called c000 to c156."""


def list_charades(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the videos of frame lists, or of the CSV files with intervals (``id,subject,...``).

    Media are frames, or else video files named as the videos. ``labels`` are all of a video's; the
    annotation is ``fps`` and ``frame_labels``: [first frame, frame after the last, labels] for each
    run of frames; or ``actions``: [label, first second, last second], and ``length_s``.
    """
    options = check_options(dataset, CharadesOptions)
    lists, flaws, files = ListFiles(dataset, roots), Flaws(), SourceFiles(roots)
    reader = _Reader(lists, FrameFolders(files, options.frames_folder), flaws, options.fps)
    entries = [
        entry for split, name in lists.splits().items() for entry in reader.entries(name, split)
    ]
    classes = _class_names(lists, options.classes, flaws)
    return list_entries(dataset, files, entries, classes, flaws, is_unique=True)


class _Reader(NamedTuple):
    """Makes entries of either kind of list."""

    lists: ListFiles
    folders: FrameFolders
    flaws: Flaws
    fps: float

    def entries(self, name: str, split: str) -> Iterator[Entry]:
        """Of the list ``name``, whose header says which kind it is."""
        _, header = next(self.lists.rows(name, f"splits.{split}"), ("", [""]))
        yield from (self._intervals if header[0] == "id" else self._frames)(name, split)

    def _frames(self, name: str, split: str) -> Iterator[Entry]:
        videos = read_frame_list(self.lists, name, f"splits.{split}", self.flaws)
        for video, listed in videos.items():
            annotation = {"fps": self.fps, "frame_labels": label_runs(listed.labels)}
            placed = self.folders.place(video, listed.paths)
            yield _entry(placed, split, listed.where, listed.all_labels, annotation)

    def _intervals(self, name: str, split: str) -> Iterator[Entry]:
        rows = self.lists.rows(name, f"splits.{split}")
        header = next(rows)[1]
        for where, values in rows:
            row = dict(zip(header, values, strict=False))
            actions = _parse_actions(row.get("actions", ""), where, self.flaws)
            annotation: dict[str, object] = {"actions": actions}
            length = row.get("length", "")
            if _NUMBER.fullmatch(length):
                annotation["length_s"] = float(length)
            elif length:
                self.flaws.add(where, f"length {length!r} is no number")
            placed = self.folders.place_all(row["id"])
            if placed.media == "frames":
                annotation["fps"] = self.fps
            labels = tuple(sorted({label for label, _, _ in actions}))
            yield _entry(placed, split, where, labels, annotation)


def _entry(
    placed: Placed,
    split: str,
    where: str,
    labels: tuple[int, ...],
    annotation: Mapping[str, object],
) -> Entry:
    return Entry(
        placed.path,
        split,
        where,
        labels=labels,
        annotation=annotation_text(annotation),
        media=placed.media,
        frames=placed.frames,
    )


def _parse_actions(text: str, where: str, flaws: Flaws) -> list[tuple[int, float, float]]:
    """Label, start and end of ``c092 11.90 21.20;c147 0.00 12.60``."""
    actions = []
    for part in filter(None, text.split(";")):
        if match := _ACTION.fullmatch(part.strip()):
            actions.append((int(match[1]), float(match[2]), float(match[3])))
        else:
            flaws.add(where, f"{part!r} is not '<class> <start> <end>', as in 'c092 11.90 21.20'")
    return actions


def _class_names(lists: ListFiles, name: str, flaws: Flaws) -> list[str]:
    if not lists.has(name):
        return [f"c{number:03d}" for number in range(_NUM_CLASSES)]
    names: list[str] = []
    for where, text in lists.lines(name, "options.classes"):
        if not text.startswith(f"c{len(names):03d} "):
            flaws.add(where, f"{text!r} is not class c{len(names):03d} with its name")
        names.append(text[5:])
    return names
