"""Any dataset as a table of paths and labels: CSV, TSV, Parquet, or lines ``path label``."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sigma_pipeline.data_prep.catalogues.class_names import label_entries, read_class_names
from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, list_entries
from sigma_pipeline.data_prep.catalogues.tables import Table, TableForm, read_table
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles
from sigma_pipeline.infra.errors import ConfigError

PATH_COLUMNS = (
    "path",
    "video_path",
    "filepath",
    "file_path",
    "file",
    "filename",
    "video",
    "video_name",
    "video_id",
)
"""What tables call the column of paths, the likeliest name first."""
LABEL_COLUMNS = ("label", "label_id", "class", "class_name", "category", "action")


class TableOptions(TableForm, frozen=True, extra="forbid"):
    """What a recipe may choose."""

    path_column: str | int = ""
    """Name, or number from 0; found by itself when empty."""
    label_column: str | int = ""
    group_column: str | int = ""
    """Of what samples of one origin have in common, such as their performer, for benchmarks that
    leave one group out; none when empty. An empty cell: a sample of no group."""
    only: str = ""
    """A glob over the paths as the tables write them, ``*`` reaching across folders
    (``actions/weizmann64/*``); other rows are no part of the dataset,
    whatever is wrong with them."""
    label_base: int = 0
    """The lowest label, where labels are numbers."""
    classes: str = ""
    """A file with the names of the classes, one in a line, perhaps numbered."""


def list_table(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists what the tables of the splits name, with the class numbers or names beside it.

    Tables of paths alone give samples without class.
    """
    options = check_options(dataset, TableOptions)
    lists, flaws = ListFiles(dataset, roots), Flaws()
    listed: list[tuple[Entry, str | None]] = []
    for split, name in lists.splits().items():
        known = (*PATH_COLUMNS, *LABEL_COLUMNS)
        table = read_table(lists, name, f"splits.{split}", options, known)
        listed += _read_rows(table, split, options, flaws)
    classes = read_class_names(lists, options.classes, "options.classes") if options.classes else ()
    labelled = label_entries(listed, flaws, classes=classes, label_base=options.label_base)
    return list_entries(dataset, SourceFiles(roots), labelled.entries, labelled.classes, flaws)


def _read_rows(
    table: Table, split: str, options: TableOptions, flaws: Flaws
) -> Iterator[tuple[Entry, str | None]]:
    path_place = table.place(options.path_column, PATH_COLUMNS, 0)
    label_place = table.place(options.label_column, LABEL_COLUMNS, 1)
    is_guess = options.path_column == "" and not table.columns and table.width > 2
    if path_place is None or is_guess:
        raise ConfigError(
            f"{table.name}: which of its {table.width} columns holds paths? Set "
            "options.path_column and options.label_column to their names or numbers (from 0)"
        )
    group_place = None if options.group_column == "" else table.place(options.group_column, (), 0)
    rows = [*table.whole_rows(flaws, path_place, options.only)]
    if options.only and not rows and not flaws.found:
        raise ConfigError(f"options.only: no path of {table.name} matches {options.only!r}")
    for row in rows:
        label = None if label_place is None else row.cells[label_place] or None
        group = None if group_place is None else row.cells[group_place] or None
        yield Entry(row.cells[path_place], split, row.where, group=group), label
