"""The score that ranks a run's commits, as a recipe names it: ``evaluate.best_by``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True)
class BestBy:
    """One score of one cell."""

    label: str
    """Of the benchmark, as tables show it."""
    dataset: str
    score: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of ``benchmark/dataset/score``.

        Raises:
            ValueError: it has another form.
        """
        label, dataset, score = text.split("/")
        if not (label and dataset and score):
            raise ValueError(text)
        return cls(label, dataset, score)

    def __str__(self) -> str:
        """As a recipe says it."""
        return f"{self.label}/{self.dataset}/{self.score}"

    def may_be(self, benchmark: str, dataset: str) -> bool:
        """Whether a trial of ``benchmark`` can have this label; a label may bear a mark."""
        is_labelled = self.label == benchmark or self.label.startswith(f"{benchmark}-")
        return is_labelled and dataset == self.dataset


class Candidate(Protocol):
    """What a recipe says of a cell, as far as it matters here."""

    @property
    def benchmark(self) -> str:
        """Its name."""
        ...

    @property
    def dataset(self) -> str:
        """Its name."""
        ...

    @property
    def best(self) -> int | None:
        """How many of the best commits it waits for."""
        ...


def best_problem(best_by: str | None, cells: Sequence[Candidate]) -> str | None:
    """What a recipe says of the best commits and cannot be done; None if all can.

    Whether the benchmark has the score is known when it has scored the first commit.
    """
    legal = _legal(cells)
    if best_by is None:
        waiting = [number for number, cell in enumerate(cells) if cell.best is not None]
        if not waiting:
            return None
        best = f"cells.{waiting[0]}.best={cells[waiting[0]].best}"
        return f"{best} needs best_by, the score that ranks commits; {legal}"
    try:
        by = BestBy.parse(best_by)
    except ValueError:
        return f"best_by={best_by!r} is not benchmark/dataset/score; {legal}"
    found = [cell for cell in cells if by.may_be(cell.benchmark, cell.dataset)]
    if not found:
        return f"best_by={best_by!r} names no cell; {legal}"
    if all(cell.best is not None for cell in found):
        return f"best_by={best_by!r} names a cell that waits for the best commits itself; {legal}"
    return None


def _legal(cells: Sequence[Candidate]) -> str:
    names = dict.fromkeys(
        f"{cell.benchmark}/{cell.dataset}/<score>" for cell in cells if cell.best is None
    )
    return f"it may be {', '.join(names)}" if names else "add a cell without best to rank by"
