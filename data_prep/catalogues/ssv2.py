"""Something-Something v2: videos by id, JSON lists of templates (protocols 10)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, check_options, parse_label
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, annotation_text, list_entries
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles
from sigma_pipeline.infra.errors import ConfigError


class Ssv2Options(BaseModel, frozen=True, extra="forbid"):
    """What a recipe may choose."""

    labels: str = "something-something-v2-labels.json"
    """The file that numbers the templates."""


def list_ssv2(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the ids of the JSON lists; a label is the number of the template without brackets.

    Lists of the test set hold ids alone: their videos have no label.
    """
    options = check_options(dataset, Ssv2Options)
    lists, flaws = ListFiles(dataset, roots), Flaws()
    number_of = _read_labels(lists, options.labels)
    entries = []
    for split, name in lists.splits().items():
        for where, value in lists.json_items(name, f"splits.{split}"):
            if entry := _entry(value, split, where, number_of, flaws):
                entries.append(entry)
    classes = sorted(number_of, key=lambda template: number_of[template])
    return list_entries(dataset, SourceFiles(roots), entries, classes, flaws, is_unique=True)


def _read_labels(lists: ListFiles, name: str) -> dict[str, int]:
    value = lists.json(name, "options.labels")
    pairs = value.items() if isinstance(value, dict) else ()
    numbers = {
        template: number
        for template, text in pairs
        if (number := parse_label(str(text))) is not None
    }
    if sorted(numbers.values()) != list(range(len(pairs))) or not numbers:
        raise ConfigError(f"{name} does not number templates from 0 without gaps")
    return numbers


def _entry(
    value: Any, split: str, where: str, number_of: Mapping[str, int], flaws: Flaws
) -> Entry | None:
    identifier = value.get("id") if isinstance(value, dict) else None
    if not isinstance(identifier, str | int):
        flaws.add(where, "there is no id")
        return None
    template = value.get("template")
    if template is None:
        return Entry(str(identifier), split, where)
    label = number_of.get(str(template).replace("[", "").replace("]", ""))
    if label is None:
        flaws.add(where, f"template {template!r} is not among the {len(number_of)} numbered ones")
        return None
    said = {key: value[key] for key in ("label", "placeholders") if key in value}
    return Entry(str(identifier), split, where, label, annotation=annotation_text(said))
