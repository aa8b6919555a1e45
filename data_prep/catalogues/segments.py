"""Parts of videos as a table of video, start, end (in seconds) and label."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sigma_pipeline.data_prep.catalogues.class_names import label_entries, read_class_names
from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, list_entries
from sigma_pipeline.data_prep.catalogues.table import LABEL_COLUMNS, PATH_COLUMNS
from sigma_pipeline.data_prep.catalogues.tables import Row, Table, TableForm, read_table
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.items import Segment
from sigma_pipeline.data_prep.source_files import SourceFiles
from sigma_pipeline.infra.errors import ConfigError

_START_COLUMNS = ("start", "start_s", "start_time", "time_start", "t_start", "begin")
_END_COLUMNS = ("end", "end_s", "end_time", "time_end", "t_end", "stop")


class SegmentsOptions(TableForm, frozen=True, extra="forbid"):
    """What a recipe may choose."""

    label_base: int = 0
    """The lowest label, where labels are numbers."""
    classes: str = ""
    """A file with the names of the classes, one in a line, perhaps numbered."""


def list_segments(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists a sample for each row; a video may have many.

    Without header, columns are video, start, end and, where there is a fourth, label.
    """
    options = check_options(dataset, SegmentsOptions)
    lists, flaws = ListFiles(dataset, roots), Flaws()
    listed: list[tuple[Entry, str | None]] = []
    for split, name in lists.splits().items():
        known = (*PATH_COLUMNS, *_START_COLUMNS)
        table = read_table(lists, name, f"splits.{split}", options, known)
        listed += _read_rows(table, split, flaws)
    classes = read_class_names(lists, options.classes, "options.classes") if options.classes else ()
    labelled = label_entries(listed, flaws, classes=classes, label_base=options.label_base)
    return list_entries(dataset, SourceFiles(roots), labelled.entries, labelled.classes, flaws)


def _read_rows(table: Table, split: str, flaws: Flaws) -> Iterator[tuple[Entry, str | None]]:
    known = (PATH_COLUMNS, _START_COLUMNS, _END_COLUMNS, LABEL_COLUMNS)
    places = [table.place("", names, default) for default, names in enumerate(known)]
    path, start, end, label = places
    if path is None or start is None or end is None:
        raise ConfigError(
            f"{table.name} lacks columns: it needs video, start, end and may have label, and has "
            f"{', '.join(table.columns) or f'{table.width} without names'}"
        )
    for row in table.whole_rows(flaws):
        if segment := _segment(row, start, end, flaws):
            said = None if label is None else row.cells[label] or None
            yield Entry(row.cells[path], split, row.where, segment=segment), said


def _segment(row: Row, start: int, end: int, flaws: Flaws) -> Segment | None:
    try:
        return Segment(float(row.cells[start]), float(row.cells[end]))
    except ValueError:
        times = f"{row.cells[start]!r} to {row.cells[end]!r}"
        flaws.add(row.where, f"{times} is no time in seconds")
        return None
