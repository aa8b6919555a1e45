"""Tables of learning from few as rows of text and as CSV."""

import csv
import io
from collections.abc import Iterator, Sequence

from sigma_pipeline.jobs.few import FewPoint, FewRow, FewTable

Rows = list[list[str]]
_NONE = "-"
_CSV_HEADER = (
    *("benchmark", "dataset", "score", "encoder", "examples"),
    *("seeds", "mean", "deviation", "least", "greatest"),
)


def few_rows(table: FewTable) -> Rows:
    """A header, and one row per encoder: mean, deviation, and range over the seeds of each size."""
    heading = f"{table.benchmark} on {table.dataset}, {table.score}"
    rows = [[heading, *(_size(size) for size in table.sizes)]]
    for row in table.rows:
        rows.append([_name(row), *(_text(row.point(size)) for size in table.sizes)])
    return rows


def few_remark(tables: Sequence[FewTable]) -> str:
    """What the numbers are."""
    seeds = sorted(
        {len(one.values) for table in tables for row in table.rows for one in row.points}
    )
    if seeds == [1]:
        return "Of one seed each; seeds: [0, 1, 2] of a cell show how much the draw matters."
    return f"Mean +- standard deviation [range] over {' or '.join(map(str, seeds))} seeds."


def few_csv(tables: Sequence[FewTable]) -> bytes:
    """A line per encoder and size."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(_CSV_HEADER)
    for table in tables:
        writer.writerows(_csv_rows(table))
    return lines.getvalue().encode()


def _size(examples: int | None) -> str:
    return "all" if examples is None else str(examples)


def _name(row: FewRow) -> str:
    return f"{row.encoder}{' *' if row.is_best else ''}"


def _text(point: FewPoint | None) -> str:
    if point is None:
        return _NONE
    if point.deviation is None:
        return f"{point.mean:.3f}"
    least, greatest = min(point.values), max(point.values)
    return f"{point.mean:.3f} +-{point.deviation:.3f} [{least:.3f}, {greatest:.3f}]"


def _csv_rows(table: FewTable) -> Iterator[list[object]]:
    for row in table.rows:
        for point in row.points:
            numbers = point.mean, point.deviation, min(point.values), max(point.values)
            yield [
                *(table.benchmark, table.dataset, table.score, row.encoder, _size(point.examples)),
                len(point.values),
                *("" if number is None else f"{number:.6g}" for number in numbers),
            ]
