"""Tables whose form is only known by looking: separator, header, and which column holds what."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from sigma_pipeline.data_prep.catalogues.list_files import ListFiles
from sigma_pipeline.data_prep.catalogues.lists import Flaws
from sigma_pipeline.data_prep.suffixes import VIDEO_SUFFIXES, suffix_of
from sigma_pipeline.infra.errors import ConfigError

Separator = Literal["auto", "comma", "semicolon", "tab", "space"]

_SEPARATORS: Mapping[Separator, str] = {"tab": "\t", "comma": ",", "semicolon": ";"}


class TableForm(BaseModel, frozen=True, extra="forbid"):
    """How a table is written, where its look does not tell."""

    separator: Separator = "auto"
    """``space``: the last field is all after the last space, so that a path may contain some."""
    header: bool | Literal["auto"] = "auto"


class Row(NamedTuple):
    """One row of a table."""

    where: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows, and the names of their columns in lower case where the table gives them."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @cached_property
    def width(self) -> int:
        """Number of columns: as the header says, else as most rows have it."""
        widths = Counter(len(row.cells) for row in self.rows)
        return len(self.columns) or max(widths, key=lambda width: widths[width], default=0)

    def place(self, wanted: str | int, known: Sequence[str], default: int) -> int | None:
        """Which column is meant: ``wanted`` (name or number from 0), else the first ``known`` one.

        ``default`` where the table does not name its columns; None where it has no such column.

        Raises:
            ConfigError: there is no column ``wanted``.
        """
        if wanted == "":
            found = [self.columns.index(name) for name in known if name in self.columns]
            if self.columns:
                return found[0] if found else None
            return default if default < self.width else None
        if isinstance(wanted, int) and 0 <= wanted < self.width:
            return wanted
        if str(wanted).lower() in self.columns:
            return self.columns.index(str(wanted).lower())
        names = ", ".join(self.columns) or f"{self.width} columns without names"
        raise ConfigError(f"{self.name} has no column {wanted!r}, but {names}")

    def whole_rows(self, flaws: Flaws, place: int = 0, only: str = "") -> Iterator[Row]:
        """Rows that have all columns; the others become flaws.

        With a glob ``only``, rows with another cell at ``place`` are neither.
        """
        for row in self.rows:
            if only and place < len(row.cells) and not fnmatchcase(row.cells[place], only):
                continue
            if len(row.cells) == self.width:
                yield row
            else:
                flaws.add(row.where, f"{len(row.cells)} fields instead of {self.width}")


def read_table(
    lists: ListFiles, name: str, key: str, form: TableForm, known: Sequence[str]
) -> Table:
    """The table in the list ``name``; ``known`` are column names that tell a header from a row.

    Raises:
        MissingInputError: the list is not there.
        ConfigError: it is no table.
    """
    if suffix_of(name) == ".parquet":
        return _read_parquet(lists, name, key)
    separator = form.separator
    if separator == "auto":
        separator = _separator(lists, name, key, known)
    if separator == "space":
        lines = lists.lines(name, key)
        rows = [Row(where, _cut_at_last_space(text)) for where, text in lines]
    else:
        read = lists.rows(name, key, _SEPARATORS[separator])
        rows = [Row(where, tuple(cell.strip() for cell in cells)) for where, cells in read]
    first = tuple(cell.lower() for cell in rows[0].cells) if rows else ()
    if form.header is True or (form.header == "auto" and not set(known).isdisjoint(first)):
        return Table(name, first, tuple(rows[1:]))
    return Table(name, (), tuple(rows))


def _read_parquet(lists: ListFiles, name: str, key: str) -> Table:
    try:
        table = pq.read_table(io.BytesIO(lists.path(name, key).read_bytes()))
        columns = [column.cast(pa.string()).to_pylist() for column in table.columns]
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{name} is no Parquet table of plain columns: {error}") from error
    rows = (tuple(cell or "" for cell in cells) for cells in zip(*columns, strict=True))
    return Table(
        name,
        tuple(column.lower() for column in table.column_names),
        tuple(Row(f"{name}:{number}", cells) for number, cells in enumerate(rows, 1)),
    )


def _separator(lists: ListFiles, name: str, key: str, known: Sequence[str]) -> Separator:
    """The first one that cuts a header, or else all rows into equally many fields; else spaces."""
    for separator, mark in _SEPARATORS.items():
        rows = (row for _, row in lists.rows(name, key, mark))
        first = next(rows, [])
        is_header = not set(known).isdisjoint(cell.strip().lower() for cell in first)
        if len(first) > 1 and (is_header or all(len(row) == len(first) for row in rows)):
            return separator
    return "space"


def _cut_at_last_space(text: str) -> tuple[str, ...]:
    """``path label``; a single field where what follows the last space ends like a video."""
    path, space, label = text.rpartition(" ")
    return (path.rstrip(), label) if space and suffix_of(label) not in VIDEO_SUFFIXES else (text,)
