"""HMDB51: ``class/clip.avi``; per class and fold, a list that marks each clip (protocols 10)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, list_entries
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles


class Hmdb51Options(BaseModel, frozen=True, extra="forbid"):
    """What a recipe may choose."""

    fold: Literal[1, 2, 3] = 1


def list_hmdb51(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the clips whose mark in ``<class>_test_split<fold>.txt`` is that of a split.

    Classes are those that have a list, sorted. Clips of other marks (0: unused) are not listed.
    """
    ending = f"_test_split{check_options(dataset, Hmdb51Options).fold}.txt"
    lists, flaws = ListFiles(dataset, roots), Flaws()
    classes = [name.removesuffix(ending) for name in lists.names_ending(ending, "annotations")]
    split_of = {mark: split for split, mark in dataset.split_files.items()}
    entries = []
    for label, class_name in enumerate(classes):
        for where, text in lists.lines(class_name + ending, "annotations"):
            clip, _, mark = text.rpartition(" ")
            if not clip or not mark.isdecimal():
                flaws.add(where, f"{text!r} is not '<clip> <mark>'")
            elif mark in split_of:
                entries.append(Entry(f"{class_name}/{clip}", split_of[mark], where, label))
    return list_entries(dataset, SourceFiles(roots), entries, classes, flaws, is_unique=True)
