"""A gang for tests of what its processes do without meeting."""

from collections.abc import Callable
from typing import Any

from sigma_pipeline.jobs.benchmarks.gang import OwnProcess
from sigma_pipeline.jobs.train_request import RankPlace


class InTurn(OwnProcess):
    """A gang that works one after the other; of no use where they have to meet."""

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """See ``Gang``."""
        return [function(RankPlace(rank, self.size), *arguments) for rank in range(self.size)]
