"""A line of a benchmark's table: what was measured, and whether it is as it should be."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    value: float
    unit: str
    at_most: float | None = None
    """The goal."""
    at_least: float | None = None
    """The goal, where more is better."""

    @property
    def is_reached(self) -> bool:
        """Whether the goal is, where there is one."""
        is_low = self.at_most is None or self.value <= self.at_most
        return is_low and (self.at_least is None or self.value >= self.at_least)

    def line(self) -> str:
        """As Markdown."""
        goal = ""
        for words, limit in (("at most", self.at_most), ("at least", self.at_least)):
            if limit is not None:
                goal = f"{words} {limit:g}: {'met' if self.is_reached else '**missed**'}"
        return f"| {self.what} | {self.value:.3g} | {self.unit} | {goal} |\n"


def write_table(figures: Iterable[Figure]) -> bool:
    """Writes each line as it is known, below the load before; whether all goals are reached."""
    load, _, _ = os.getloadavg()
    sys.stdout.write(f"{os.cpu_count()} cores, load {load:.2f} before the start\n\n")
    sys.stdout.write("| what | value | unit | goal |\n|---|--:|---|---|\n")
    is_reached = True
    for figure in figures:
        is_reached &= figure.is_reached
        sys.stdout.write(figure.line())
        sys.stdout.flush()
    return is_reached
