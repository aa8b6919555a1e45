"""FineGym: sub-action clips ``<video>_E_<from>_<to>_A_<from>_<to>.avi`` by lists (protocols 10)."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, check_options, parse_label
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, list_entries
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles

_LABELS = {
    "gym99": range(99),
    "gym288": range(288),
    "fx_s1": range(6, 17),
    "ub_s1": range(74, 89),
}
"""Labels of each set in its lists, those of Gym99 for the last two (protocols 5.1)."""
_CATEGORY = re.compile(r"Clabel:\s*(\d+);\s*set:\s*\d+;\s*(?:Glabel:\s*\d+;\s*)?(.+)")


class FineGymOptions(BaseModel, frozen=True, extra="forbid"):
    """What a recipe may choose."""

    subset: Literal["gym99", "gym288", "fx_s1", "ub_s1"] = "gym99"
    """``fx_s1``: leaps and jumps of the floor exercise, ``ub_s1``: circles on the uneven bars."""


def list_finegym(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the clips whose label belongs to the chosen set; labels count from 0 in it.

    Lists may name clips without suffix. Names of classes are those in ``gym99_categories.txt``
    (or 288) where that lies beside the lists, else the numbers in the lists.
    """
    subset = check_options(dataset, FineGymOptions).subset
    lists, flaws = ListFiles(dataset, roots), Flaws()
    family = "gym288" if subset == "gym288" else "gym99"
    entries = []
    for split, name in lists.splits(family=family).items():
        for where, text in lists.lines(name, f"splits.{split}"):
            clip, _, number = text.rpartition(" ")
            label = parse_label(number)
            if not clip or label is None or label not in _LABELS[family]:
                flaws.add(where, f"{text!r} is not '<clip> <label of {family}>'")
            elif label in _LABELS[subset]:
                entries.append(Entry(clip, split, where, label - _LABELS[subset].start))
    named = _read_categories(lists, f"{family}_categories.txt", flaws)
    classes = [named.get(number, str(number)) for number in _LABELS[subset]]
    return list_entries(dataset, SourceFiles(roots), entries, classes, flaws, is_unique=True)


def _read_categories(lists: ListFiles, name: str, flaws: Flaws) -> dict[int, str]:
    named: dict[int, str] = {}
    if lists.has(name):
        for where, text in lists.lines(name, "annotations"):
            if match := _CATEGORY.fullmatch(text):
                named[int(match[1])] = match[2]
            else:
                flaws.add(where, f"{text!r} is not 'Clabel: <number>; set: ...; <name>'")
    return named
