"""The processes that one benchmark trains in: one, or several that add up their gradients."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sigma_pipeline.jobs.train_request import RankPlace

T = TypeVar("T")


class Gang(Protocol):
    """Processes that are there for one cell."""

    @property
    def size(self) -> int:
        """How many."""
        ...

    def run(self, function: Callable[..., T], *arguments: Any) -> list[T]:
        """Calls ``function(place, *arguments)`` in all of them at once; results by rank.

        Args:
            function: of a module, so that it can be found by its name; gets its ``RankPlace``.
            arguments: plain data.

        Raises:
            StageError: a process died, or whatever ``function`` raised first. The others are ended.
        """
        ...


class OwnProcess:
    """This process alone."""

    size = 1

    def run(self, function: Callable[..., T], *arguments: Any) -> list[T]:
        """See ``Gang``."""
        return [function(RankPlace(), *arguments)]
