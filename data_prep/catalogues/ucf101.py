"""UCF101: ``Class/v_Class_g08_c01.avi``, with its three pairs of lists (protocols 10)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from sigma_pipeline.data_prep.catalogues.list_files import (
    Line,
    ListFiles,
    check_options,
    parse_label,
)
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, list_entries
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles


class Ucf101Options(BaseModel, frozen=True, extra="forbid"):
    """What a recipe may choose."""

    fold: Literal[1, 2, 3] = 1


_CLASSES = "classInd.txt"
_GROUP = re.compile(r"_(g\d+)_c\d+")


def list_ucf101(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists what ``trainlist0k.txt`` and ``testlist0k.txt`` name.

    The label is the line's (from 1) or, in test lists, that of the folder; ``classInd.txt`` numbers
    the classes. The group is that of the name within its class (``Archery/g08``): each class counts
    its groups from 1, and equal numbers of two classes have nothing in common.
    """
    options = check_options(dataset, Ucf101Options)
    lists, flaws = ListFiles(dataset, roots), Flaws()
    classes = read_numbered_classes(lists, _CLASSES, flaws)
    entries = [
        entry
        for split, name in lists.splits(fold=options.fold).items()
        for line in lists.lines(name, f"splits.{split}")
        for entry in _entries(line, split, classes, flaws)
    ]
    names = sorted(classes, key=lambda name: classes[name])
    return list_entries(dataset, SourceFiles(roots), entries, names, flaws, is_unique=True)


def read_numbered_classes(lists: ListFiles, name: str, flaws: Flaws) -> dict[str, int]:
    """Labels (from 0) by class, out of lines ``1 ApplyEyeMakeup`` that count from 1."""
    classes: dict[str, int] = {}
    for where, text in lists.lines(name, "annotations"):
        number, _, class_name = text.partition(" ")
        if number != str(len(classes) + 1) or not class_name or class_name in classes:
            flaws.add(where, f"{text!r} is not '{len(classes) + 1} <a new class>'")
        classes[class_name] = len(classes)
    return classes


def _entries(line: Line, split: str, classes: Mapping[str, int], flaws: Flaws) -> Iterator[Entry]:
    path, _, text = line.text.rpartition(" ")
    number = parse_label(text)
    if number is None:
        path = line.text
        folder = path.rpartition("/")[0].rpartition("/")[2]
        if folder not in classes:
            flaws.add(line.where, f"{folder!r} is not a class of {_CLASSES}")
            return
        number = classes[folder] + 1
    if 1 <= number <= len(classes):
        group = _GROUP.search(path)
        place = group and f"{list(classes)[number - 1]}/{group[1]}"
        yield Entry(path, split, line.where, number - 1, group=place)
    else:
        flaws.add(line.where, f"label {number} is not among 1 to {len(classes)} of {_CLASSES}")
