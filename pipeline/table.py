"""Tables of plain text: cells in columns, and the scores of a run."""

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they bring scipy, which other tables have no use for
    from sigma_pipeline.jobs.benchmarks.benchmark import Score
    from sigma_pipeline.jobs.scores import TableRow

_GAP = "  "
_BEST = "* "
_MAX_WIDTH = 120
"""Characters of a line; columns that do not fit stand in a table of their own below."""


def format_scores(rows: "Sequence[TableRow]") -> list[str]:
    """Lines of the table: an encoder per row, a score per column, and remarks below.

    Columns are those of the recipe's benchmarks; a score is shown with half the width of its 95%
    interval. The best commit bears a star. A table that would be too wide is several, one below the
    other.
    """
    columns = _columns(rows)
    is_one_dataset = len({dataset for _, dataset, _ in columns}) == 1
    texts = [
        [_heading(column, is_one_dataset), *(_text(row, column) for row in rows)]
        for column in columns
    ]
    encoders = ["encoder", *map(_marked, rows)]
    lines = aligned_narrow(list(zip(encoders, *texts, strict=True)))
    marks = [f"{_BEST}the best commit" for row in rows if row.is_best]
    return [*lines, *marks, *_remarks(rows)]


def _heading(column: "Column", is_one_dataset: bool) -> str:
    label, dataset, score = column
    return " ".join([label, *([] if is_one_dataset else [dataset]), score]).rstrip()


def _fitting(columns: Sequence[Sequence[str]], width: int) -> list[list[Sequence[str]]]:
    """``columns`` in as few groups of at most ``width`` characters as their order allows."""
    groups: list[list[Sequence[str]]] = [[]]
    free = width
    for column in columns:
        needed = len(_GAP) + max(map(len, column))
        if needed > free and groups[-1]:
            groups.append([])
            free = width
        groups[-1].append(column)
        free -= needed
    return groups


def _marked(row: "TableRow") -> str:
    return f"{row.encoder} {_BEST}".rstrip() if row.is_best else row.encoder


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


def aligned_narrow(table: Sequence[Sequence[str]]) -> list[str]:
    """The same; columns that do not fit a screen stand below, with the first one beside them."""
    first, *columns = zip(*table, strict=True)
    parts = _fitting(columns, _MAX_WIDTH - max(map(len, first)))
    tables = [aligned(list(zip(first, *part, strict=True))) for part in parts]
    return [line for lines in tables for line in (*lines, "")][:-1]


def _remarks(rows: "Sequence[TableRow]") -> list[str]:
    """Why something was skipped or failed, and what to know about the scores; each once.

    Of remarks that change from encoder to encoder, those on the last one stand for all: there may
    be hundreds, and each is kept with its scores.
    """
    of_scores: dict[str, list[tuple[str, str]]] = {}
    others: dict[str, None] = {}
    for row in rows:
        for cell in row.cells:
            where = f"{cell.label} on {cell.dataset}"
            if cell.reason and cell.state == "done":
                of_scores.setdefault(where, []).append((row.encoder, cell.reason))
            elif cell.reason and cell.state == "failed":
                others[f"{where}, {row.encoder}, failed: {cell.reason}"] = None
            elif cell.reason:
                others[f"{where} is skipped: {cell.reason}"] = None
    return [*(_remark(where, said) for where, said in of_scores.items()), *others]


def _remark(where: str, said: Sequence[tuple[str, str]]) -> str:
    encoder, reason = said[-1]
    is_same = len({reason for _, reason in said}) == 1
    return f"{where}{'' if is_same else f', {encoder}'}: {reason}"
