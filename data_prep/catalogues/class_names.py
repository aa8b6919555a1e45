"""Names of classes: read from a file of them, or taken from the labels of the lists."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, parse_label
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws

_NUMBER_FIRST = re.compile(r"(\d+)[\s,;:]+(.+)")
_NUMBER_LAST = re.compile(r"(.+?)[\s,;:]+(\d+)")

_MOST_CLASSES = 100_000
"""A higher number in a list without class names is a mistake."""


class Labelling(NamedTuple):
    """Entries with their labels as numbers from 0, and what these stand for."""

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]


def read_class_names(lists: ListFiles, name: str, key: str) -> tuple[str, ...]:
    """The classes that the file ``name`` gives, one in a line.

    All lines may be numbered from 0 or from 1, before or after the name.
    """
    lines = [line.text.strip() for line in lists.lines(name, key)]
    for pattern, number_group in ((_NUMBER_FIRST, 1), (_NUMBER_LAST, 2)):
        matches = [match for line in lines if (match := pattern.fullmatch(line))]
        numbers = [int(match[number_group]) for match in matches]
        if numbers in (list(range(len(lines))), list(range(1, len(lines) + 1))):
            return tuple(match[3 - number_group] for match in matches)
    return tuple(lines)


def label_entries(
    listed: Sequence[tuple[Entry, str | None]],
    flaws: Flaws,
    *,
    classes: Sequence[str] = (),
    label_base: int = 0,
) -> Labelling:
    """Gives each entry the label that its list writes beside it, as a number or as a name.

    Numbers count from ``label_base``. Without ``classes``, names are sorted, and numbers name
    themselves. Names that ``classes`` lacks become flaws.
    """
    texts = {text for _, text in listed if text is not None}
    numbers = {text: number for text in texts if (number := parse_label(text)) is not None}
    if len(numbers) == len(texts):
        number_of = {text: number - label_base for text, number in numbers.items()}
        count = min(max(number_of.values(), default=-1) + 1, _MOST_CLASSES)
        names = tuple(classes) or tuple(str(n + label_base) for n in range(count))
    else:
        names = tuple(classes) or tuple(sorted(texts))
        number_of = {name: number for number, name in enumerate(names)}
    entries = []
    for entry, text in listed:
        if text is not None and text not in number_of:
            flaws.add(entry.where, f"class {text!r} is not among the {len(names)} of the dataset")
        elif text is None:
            entries.append(entry)
        else:
            entries.append(entry._replace(label=number_of[text]))
    return Labelling(tuple(entries), names)
