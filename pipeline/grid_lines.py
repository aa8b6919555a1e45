"""How far the evaluation of a run is: its cells, counted."""

from collections import Counter
from collections.abc import Iterator, Sequence

from sigma_pipeline.jobs.scores import TableRow


def describe_grid(
    rows: Sequence[TableRow], expected: Sequence[tuple[str, str, int]]
) -> Iterator[str]:
    """A line per benchmark and dataset.

    Args:
        rows: of the table of scores.
        expected: label, dataset, and number of encoders that there are so far to be evaluated.
    """
    for label, dataset, num_encoders in expected:
        states = _states(rows, label, dataset)
        name = f"{label} on {dataset}"
        if states["skipped"]:
            yield f"{name}: skipped"
            continue
        missing = _missing(states, num_encoders)
        yield f"{name}: {states['done']} done, {states['failed']} failed, {missing} missing"


def count_missing(rows: Sequence[TableRow], expected: Sequence[tuple[str, str, int]]) -> int:
    """How many cells are still to be made; see ``describe_grid``."""
    return sum(
        _missing(_states(rows, label, dataset), num_encoders)
        for label, dataset, num_encoders in expected
    )


def _states(rows: Sequence[TableRow], label: str, dataset: str) -> Counter[str]:
    cells = [cell for row in rows for cell in row.cells]
    return Counter(cell.state for cell in cells if (cell.label, cell.dataset) == (label, dataset))


def _missing(states: Counter[str], num_encoders: int) -> int:
    if states["skipped"]:
        return 0
    return max(num_encoders - states["done"] - states["failed"], 0)
