"""AVA v2.2: boxes of persons and what they do, one second after another (protocols 5.2 and 10)."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from pydantic import BaseModel, Field, PositiveFloat

from sigma_pipeline.data_prep.catalogues.frame_lists import FrameFolders, read_frame_list
from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, annotation_text, list_entries
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles

NUM_ACTIONS = 80
_LISTED_ACTION = re.compile(r'name:\s*"([^"]*)"\s*(?:label_)?id:\s*(\d+)')
_UNLISTED = "action {}"
_BOX_COLUMNS, _PREDICTED_COLUMNS = 7, 8

Box = list[float | int | None]
Boxes = Mapping[str, Mapping[str, list[Box]]]
"""By movie and second."""


class AvaOptions(BaseModel, frozen=True, extra="forbid"):
    """What a recipe may choose; ``{split}`` in a name stands for the split's."""

    frames_folder: str = "frames"
    """Below it lie the frames, by the paths of the frame lists."""
    fps: PositiveFloat = 30.0
    start_s: float = Field(default=900.0, ge=0)
    """Second of the movie that the first frame shows."""
    video_start_s: float = Field(default=0.0, ge=0)
    """The same of a video file, where there is one instead of frames."""
    boxes: str = "annotations/ava_{split}_v2.2.csv"
    excluded: str = "annotations/ava_{split}_excluded_timestamps_v2.2.csv"
    """Seconds that are not evaluated; may be absent."""
    predicted_boxes: str = ""
    """CSV of 8 columns, the last a score; none when empty."""
    actions: str = "annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt"
    """Names of actions; the others are called ``action <id>``. May be absent."""


def list_ava(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the movies of the frame lists; media are their frames, or else video files.

    The annotation: ``boxes``, by second lists of [x1, y1, x2, y2, action, person] (parts of width
    and height; actions count from 1, as AVA's tools want them); ``predicted_boxes``, the same with
    a score instead of a person and often no action; ``excluded`` seconds; ``fps``; ``start_s``, the
    second of the first frame. ``labels`` are all actions of a movie, counted from 0.
    """
    options = check_options(dataset, AvaOptions)
    lists, flaws, files = ListFiles(dataset, roots), Flaws(), SourceFiles(roots)
    folders = FrameFolders(files, options.frames_folder)
    entries: list[Entry] = []
    for split, name in lists.splits().items():
        marks = _Marks(lists, split, options, flaws)
        for movie, listed in read_frame_list(lists, name, f"splits.{split}", flaws).items():
            placed = folders.place(movie, listed.paths)
            start_s = options.start_s if placed.media == "frames" else options.video_start_s
            entries.append(
                Entry(
                    placed.path,
                    split,
                    listed.where,
                    labels=marks.labels(movie),
                    annotation=marks.annotation(movie, options.fps, start_s),
                    media=placed.media,
                    frames=placed.frames,
                )
            )
    classes = _class_names(lists, options.actions)
    return list_entries(dataset, files, entries, classes, flaws, is_unique=True)


def listed_actions(text: str) -> dict[int, str]:
    """Names by number, from 1, of the actions in a list of AVA's tools (``.pbtxt``)."""
    found = {int(number): name for name, number in _LISTED_ACTION.findall(text)}
    return {number: name for number, name in found.items() if 1 <= number <= NUM_ACTIONS}


def scored_classes(names: Sequence[str]) -> list[int]:
    """Which classes count, from 0: those that the list of actions named, or else all.

    ActivityNet's list leaves out 20 of the 80 actions, of which the validation split has few.
    """
    named = [label for label, name in enumerate(names) if name != _UNLISTED.format(label + 1)]
    return named or list(range(len(names)))


class _Marks:
    """What the lists of one split say of its movies, besides their frames."""

    def __init__(self, lists: ListFiles, split: str, options: AvaOptions, flaws: Flaws) -> None:
        boxes, excluded, predicted = (
            name.replace("{split}", split)
            for name in (options.boxes, options.excluded, options.predicted_boxes)
        )
        self._boxes = _read_boxes(lists, boxes, "options.boxes", flaws)
        self._predicted = (
            _read_boxes(lists, predicted, "options.predicted_boxes", flaws) if predicted else {}
        )
        self._excluded = _read_seconds(lists, excluded, flaws) if lists.has(excluded) else {}

    def labels(self, movie: str) -> tuple[int, ...]:
        """All actions of ``movie``, counted from 0."""
        boxes = chain.from_iterable(self._boxes.get(movie, {}).values())
        return tuple(sorted({int(action) - 1 for *_, action, _ in boxes if action is not None}))

    def annotation(self, movie: str, fps: float, start_s: float) -> str:
        """All that is known of ``movie`` as JSON text."""
        value: dict[str, object] = {
            "boxes": self._boxes.get(movie, {}),
            "excluded": self._excluded.get(movie, []),
            "fps": fps,
            "start_s": start_s,
        }
        if self._predicted:
            value["predicted_boxes"] = self._predicted.get(movie, {})
        return annotation_text(value)


def _read_boxes(lists: ListFiles, name: str, key: str, flaws: Flaws) -> Boxes:
    """Boxes ``movie,second,x1,y1,x2,y2,action,person`` or, predicted, with a score at the end."""
    is_predicted = key == "options.predicted_boxes"
    boxes: dict[str, dict[str, list[Box]]] = defaultdict(dict)
    for where, row in lists.rows(name, key):
        try:
            movie, second, box = _parse_box(row, is_predicted)
        except ValueError as error:
            flaws.add(where, str(error))
            continue
        boxes[movie].setdefault(str(second), []).append(box)
    return boxes


def _parse_box(row: Sequence[str], is_predicted: bool) -> tuple[str, int, Box]:
    if not is_predicted and len(row) == _BOX_COLUMNS:
        row = [*row, ""]
    if len(row) != _PREDICTED_COLUMNS:
        raise ValueError(f"{_PREDICTED_COLUMNS} columns are needed, not {len(row)}")
    movie, second, *corners, action, last = row
    x1, y1, x2, y2 = map(float, corners)
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise ValueError(f"there is no box {', '.join(corners)}")
    number = int(action) if action and action != "-1" else None
    if number is not None and not 1 <= number <= NUM_ACTIONS:
        raise ValueError(f"action {number} is not one of the {NUM_ACTIONS} (from 1)")
    end = float(last) if is_predicted else int(last) if last else None
    return movie, int(second), [x1, y1, x2, y2, number, end]


def _read_seconds(lists: ListFiles, name: str, flaws: Flaws) -> dict[str, list[int]]:
    seconds: dict[str, list[int]] = defaultdict(list)
    for where, row in lists.rows(name, "options.excluded"):
        if len(row) == 2 and row[1].isdecimal():
            seconds[row[0]].append(int(row[1]))
        else:
            flaws.add(where, f"{','.join(row)!r} is not a movie and a second")
    return seconds


def _class_names(lists: ListFiles, name: str) -> list[str]:
    names = [_UNLISTED.format(number) for number in range(1, NUM_ACTIONS + 1)]
    if lists.has(name):
        for number, action in listed_actions(lists.text(name, "options.actions")).items():
            names[number - 1] = action
    return names
