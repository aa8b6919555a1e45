"""Pictures in folders of classes, one folder of them per split: ImageNet-1K (protocols 10)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from sigma_pipeline.data_prep.catalogues.frame_lists import FRAME_SUFFIXES
from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing, make_listing
from sigma_pipeline.data_prep.catalogues.lists import Flaws
from sigma_pipeline.data_prep.catalogues.subsets import keep_subset
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.keys import printable
from sigma_pipeline.data_prep.ledger import LedgerRow
from sigma_pipeline.data_prep.source_files import SourceFiles
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.suffixes import claims_other, suffix_of
from sigma_pipeline.infra.errors import MissingInputError


class ImageFolderOptions(BaseModel, frozen=True, extra="forbid"):
    """What a recipe may choose."""

    classes: str = ""
    """List of the classes in their order: a folder, and perhaps a name, in each line, as in
    ``LOC_synset_mapping.txt``. When empty, the folders there are, in the order of their names."""


def list_image_folder(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the pictures below the folders of the splits; the next folders are their classes.

    Pictures right in the folder of a split have no class.

    Raises:
        MissingInputError: there is no picture in any of them.
        ConfigError: a folder is not in the list of classes.
    """
    options = check_options(dataset, ImageFolderOptions)
    lists, flaws = ListFiles(dataset, roots), Flaws()
    folders = {name.strip("/"): split for split, name in lists.splits().items()}
    pictures: list[tuple[SourceFile, str, str]] = []
    rows: list[tuple[str, LedgerRow]] = []
    for file in SourceFiles(roots):
        below = file.name.partition("/")[2] if len(roots) > 1 else file.name
        split, class_folder = _place(below, folders)
        if split and suffix_of(file.name) in FRAME_SUFFIXES and not file.flaw:
            pictures.append((file, split, class_folder))
        else:
            rows.append((split or dataset.split_names[0], _left_out(file, split)))
    if not pictures:
        raise MissingInputError(
            f"there is no picture below {' or '.join(folders)} in {', '.join(map(str, roots))}; "
            "set the dataset's source, or name the folders in its splits"
        )
    names = _class_names(lists, options.classes, {folder for *_, folder in pictures}, flaws)
    label_of = {folder: label for label, folder in enumerate(names)}
    classes = tuple(names.values())
    items = [_item(*picture, label_of, classes) for picture in pictures]
    return make_listing(dataset, keep_subset(items, dataset.subset), rows, classes)


def _place(name: str, folders: Mapping[str, str]) -> tuple[str, str]:
    """Split of the file ``name`` and folder of its class, both empty where it has none."""
    for folder, split in folders.items():
        if name.startswith(f"{folder}/"):
            return split, name[len(folder) + 1 :].rpartition("/")[0]
    return "", ""


def _item(
    file: SourceFile,
    split: str,
    folder: str,
    label_of: Mapping[str, int],
    classes: Sequence[str],
) -> Item:
    label = label_of[folder] if folder else None
    return Item(
        name=file.name,
        media="image",
        files=(file,),
        split=split,
        class_name=None if label is None else classes[label],
        label=label,
    )


def _class_names(lists: ListFiles, name: str, folders: set[str], flaws: Flaws) -> dict[str, str]:
    """Name of the class by folder, in the order of labels."""
    used = sorted(folders - {""})
    if not name:
        return {folder: printable(folder) for folder in used}
    names: dict[str, str] = {}
    for where, text in lists.lines(name, "options.classes"):
        folder = text.split()[0]
        if folder in names:
            flaws.add(where, f"the class {printable(folder)!r} is listed already")
        names[folder] = printable(text)
    for folder in used:
        if folder not in names:
            flaws.add(name, f"the class {printable(folder)!r} of the source is not in it")
    flaws.raise_any()
    return names


def _left_out(file: SourceFile, split: str) -> LedgerRow:
    reason, detail = claims_other(file.name) or ("not_listed", "its suffix is not of a picture")
    if suffix_of(file.name) in FRAME_SUFFIXES and not split:
        reason, detail = "not_listed", "it lies in the folder of no split"
    elif suffix_of(file.name) in FRAME_SUFFIXES:
        reason, detail = "unreadable", file.flaw or ""
    is_counted = reason == "unreadable"
    return LedgerRow(printable(file.name), file.size, reason, detail, counted=is_counted)
