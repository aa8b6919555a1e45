"""The cells of an evaluation, counted."""

from sigma_pipeline.jobs.scores import TableCell, TableRow
from sigma_pipeline.pipeline.grid_lines import count_missing, describe_grid


def row(step: int, knn: str, linear: str = "skipped") -> TableRow:
    cells = (TableCell("knn", "clips", knn), TableCell("linear", "clips", linear))  # type: ignore[arg-type]
    return TableRow(f"step {step}", step, cells)


def test_cells_are_counted_and_those_of_commits_without_a_row_are_missing() -> None:
    rows = [row(0, "done"), row(10, "done"), row(20, "failed"), row(30, "missing")]

    expected = [("knn", "clips", 6), ("linear", "clips", 6)]

    lines = list(describe_grid(rows, expected))

    assert count_missing(rows, expected) == 3
    assert lines == ["knn on clips: 2 done, 1 failed, 3 missing", "linear on clips: skipped"]
