"""What a benchmark found."""

from typing import NamedTuple


class Row(NamedTuple):
    """One number."""

    what: str
    value: float
    unit: str
    goal: float | None = None
    """At least so much."""
