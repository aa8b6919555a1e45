"""Tables of plain text: cells in columns, and the scores of a run."""

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they bring scipy, which other tables have no use for
    from sigma_pipeline.jobs.benchmarks.benchmark import Score
    from sigma_pipeline.jobs.scores import TableCell, TableRow

_GAP = "  "


def format_scores(rows: "Sequence[TableRow]") -> list[str]:
    """Lines of the table: an encoder per row, a score per column, and remarks below.

    Columns are those of the recipe's benchmarks; a score is shown with half the width of its 95%
    interval.
    """
    columns = _columns(rows)
    header = ["encoder", *(f"{label} {score}".rstrip() for label, _, score in columns)]
    datasets = {dataset for _, dataset, _ in columns}
    if len(datasets) > 1:
        header = ["encoder", *(f"{label} {dataset} {score}" for label, dataset, score in columns)]
    body = [[row.encoder, *(_text(row, column) for column in columns)] for row in rows]
    return [*aligned([header, *body]), *_remarks(rows)]


Column = tuple[str, str, str]
"""Benchmark, dataset, and name of the score; no score where none is there yet."""


def _columns(rows: "Sequence[TableRow]") -> list[Column]:
    """One per score that any row has; one for a benchmark that has none yet."""
    names: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        for cell in row.cells:
            scores = names.setdefault((cell.label, cell.dataset), {})
            scores.update(dict.fromkeys(score.name for score in cell.scores))
    return [
        (label, dataset, score)
        for (label, dataset), scores in names.items()
        for score in scores or {"": None}
    ]


def _text(row: "TableRow", column: Column) -> str:
    label, dataset, name = column
    for cell in row.cells:
        if (cell.label, cell.dataset) == (label, dataset):
            found = [score for score in cell.scores if score.name == name]
            return _number(found[0]) if found else {"missing": "-"}.get(cell.state, cell.state)
    return "-"


def _number(score: "Score") -> str:
    return f"{score.value:.3f} +-{(score.high - score.low) / 2:.3f}"


def aligned(table: Sequence[Sequence[str]], *, left: Container[int] = (0,)) -> list[str]:
    """Lines with the cells of each column below each other; those of ``left`` begin there."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        _GAP.join(
            text.ljust(width) if number in left else text.rjust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _remarks(rows: "Sequence[TableRow]") -> list[str]:
    """Why something was skipped or failed, and what to know about the scores; each once."""
    remarks: dict[str, None] = {}
    for row in rows:
        for cell in row.cells:
            if cell.reason:
                remarks[_remark(row, cell)] = None
    return list(remarks)


def _remark(row: "TableRow", cell: "TableCell") -> str:
    where = f"{cell.label} on {cell.dataset}"
    if cell.state == "failed":
        return f"{where}, {row.encoder}, failed: {cell.reason}"
    return f"{where}{' is skipped' if cell.state == 'skipped' else ''}: {cell.reason}"
