"""Diving48 V2: clips by name, JSON lists and a vocabulary of dives (protocols 10)."""

from collections.abc import Sequence
from pathlib import Path

from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, NoOptions, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, annotation_text, list_entries
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles
from sigma_pipeline.infra.errors import ConfigError

_VOCABULARY = "Diving48_vocab.json"


def list_diving48(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the clips of the JSON lists; a class is its four words in the vocabulary.

    Frame numbers in the lists are kept as annotation: the clips are cut already.
    """
    check_options(dataset, NoOptions)
    lists, flaws = ListFiles(dataset, roots), Flaws()
    vocabulary = lists.json(_VOCABULARY, "annotations")
    if not isinstance(vocabulary, list) or not all(isinstance(dive, list) for dive in vocabulary):
        raise ConfigError(f"{_VOCABULARY} holds no list of dives, each a list of words")
    entries = []
    for split, name in lists.splits().items():
        for where, value in lists.json_items(name, f"splits.{split}"):
            match value:
                case {"vid_name": str(clip), "label": int(label), **rest}:
                    said = annotation_text(rest) if rest else None
                    entries.append(Entry(clip, split, where, label, annotation=said))
                case _:
                    flaws.add(where, "there is no vid_name with a label")
    classes = [" ".join(map(str, dive)) for dive in vocabulary]
    return list_entries(dataset, SourceFiles(roots), entries, classes, flaws, is_unique=True)
