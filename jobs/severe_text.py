"""SEVERE's table as rows of text, as Markdown and as CSV: what is published, and what a run has."""

import csv
import io
from collections.abc import Iterator, Sequence

from sigma_pipeline.jobs.severe import SevereCell, SevereRow, SevereTable
from sigma_pipeline.jobs.severe_columns import (
    COLUMNS,
    EIGHT,
    MEASURED_AGAIN,
    PUBLISHED,
    Column,
    SevereColumn,
    severe_mean,
)

Rows = list[list[str]]
_NONE = "-"
_CSV_HEADER = (
    *("run", "encoder", "step", "column", "dataset", "state"),
    *("value", "low", "high", "seeds", "reason"),
)


def main_rows(table: SevereTable) -> Rows:
    """A header, the published rows, and one per encoder of the run that fills any column.

    Stand-ins are not among them. AVA has a column where the run has it.
    """
    names = _shown_columns(table)
    rows = [["", *(_heading(COLUMNS[name]) for name in names), "mean"]]
    for published in PUBLISHED:
        values = [_text(name, published.values.get(name)) for name in names]
        rows.append([published.method, *values, f"{published.mean:.1f}"])
    for row in table.rows:
        if row.values:
            rows.append(_own_row(table, row, names))
    return rows


def stand_in_rows(table: SevereTable) -> Rows:
    """A header and one row per encoder that has stand-ins; none where there are no such."""
    stand_ins = {name: cell for row in table.rows for name, cell in row.stand_ins.items()}
    names = [name for name in COLUMNS if name in stand_ins]
    if not names:
        return []
    titles = [f"{stand_ins[name].dataset} for {COLUMNS[name].title}" for name in names]
    rows = [["stand-ins", *titles]]
    for row in table.rows:
        found = row.stand_ins
        if found:
            rows.append([_name(table, row), *(_shown(name, found.get(name)) for name in names)])
    return rows


def remarks(table: SevereTable) -> list[str]:
    """What to know of the numbers: where they are from, and why any is missing; each once."""
    return list(dict.fromkeys([*_remarks_on_published(table), *_remarks_on_own(table)]))


def markdown(table: SevereTable) -> bytes:
    """The tables and remarks as a Markdown file."""
    blocks = [f"# SEVERE: {table.run_name}", _markdown_table(main_rows(table))]
    if rows := stand_in_rows(table):
        blocks.append(_markdown_table(rows))
    blocks.append("\n".join(f"- {line}" for line in remarks(table)))
    return ("\n\n".join(blocks) + "\n").encode()


def as_csv(table: SevereTable) -> bytes:
    """A line per number, published ones first, with the interval; absent columns with reasons."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(_CSV_HEADER)
    for published in PUBLISHED:
        for name, value in published.values.items():
            writer.writerow(["", published.method, "", name, "", "published", value, *[""] * 4])
        mean = ["", published.method, "", "mean", "", "published", published.mean, *[""] * 4]
        writer.writerow(mean)
    for row in table.rows:
        writer.writerows(_csv_rows(table, row))
    return lines.getvalue().encode()


def _shown_columns(table: SevereTable) -> list[SevereColumn]:
    filled = {name for row in table.rows for name in row.values}
    return [name for name in COLUMNS if name in EIGHT or name in filled]


def _heading(column: Column) -> str:
    return column.title if column.is_percent else f"{column.title} {column.score.upper()}"


def _own_row(table: SevereTable, row: SevereRow, names: Sequence[SevereColumn]) -> list[str]:
    mean = _NONE if row.mean is None else f"{row.mean:.1f}"
    return [_name(table, row), *(_text(name, row.values.get(name)) for name in names), mean]


def _name(table: SevereTable, row: SevereRow) -> str:
    return f"{table.run_name}, {row.encoder}{' *' if row.is_best else ''}"


def _text(name: SevereColumn, value: float | None) -> str:
    return _NONE if value is None else COLUMNS[name].text(value)


def _shown(name: SevereColumn, cell: SevereCell | None) -> str:
    return _NONE if cell is None else _text(name, cell.shown)


def _remarks_on_published(table: SevereTable) -> Iterator[str]:
    again = ", ".join(
        f"{COLUMNS[name].title} {COLUMNS[name].text(value)}"
        for name, value in MEASURED_AGAIN.items()
        if name in EIGHT
    )
    yield (
        "Published rows are of ViT-B pre-trained on K400, from the table of SIGMA's site. Of MAE "
        "less is better; the mean has 100 * (1 - MAE)."
    )
    yield (
        f"SIGMA-DINO measured again (SEVERE++): {again}; take about one point as the spread "
        "between two measurements of one encoder."
    )
    if "ava" in _shown_columns(table):
        ava = COLUMNS["ava"].text(MEASURED_AGAIN["ava"])
        yield f"AVA is no part of the mean; SEVERE++ has {ava} for SIGMA-DINO."
    if any(row.is_best for row in table.rows):
        yield "* the best commit"


def _remarks_on_own(table: SevereTable) -> Iterator[str]:
    for name, column in COLUMNS.items():
        for row in table.rows:
            cell = row.cells[name]
            if cell.state == "stand-in":
                yield f"{cell.dataset} only stands in for {column.title}: {cell.reason}"
            elif cell.state == "filled" and cell.reason:
                yield f"{column.title}, {row.encoder}: {cell.reason}"
            elif cell.state == "absent" and name not in table.absent:
                yield f"{column.title} is absent for {row.encoder}: {cell.reason}"
        if name in table.absent and not column.is_extra:
            yield f"{column.title} is absent: {table.absent[name]}"
    if all(row.mean is None for row in table.rows):
        yield "No mean: it takes all eight columns."


def _markdown_table(rows: Rows) -> str:
    header, *body = rows
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _csv_rows(table: SevereTable, row: SevereRow) -> Iterator[list[object]]:
    start = [table.run_name, row.encoder, row.step]
    for name, cell in row.cells.items():
        numbers = ["" if one is None else f"{one:.6g}" for one in (cell.shown, cell.low, cell.high)]
        yield [*start, name, cell.dataset, cell.state, *numbers, cell.seeds or "", cell.reason]
    mean = severe_mean(row.values)
    if mean is not None:
        yield [*start, "mean", "", "filled", f"{mean:.6g}", *[""] * 4]
