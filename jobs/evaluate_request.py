"""What an evaluation is asked to do; plain data, and nothing heavy is imported."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.jobs.config import EvaluateConfig, EvaluateLaunchConfig
from sigma_pipeline.jobs.severe_columns import SevereColumn


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """All benchmarks of a recipe on all commits of a run; asking again does what is missing."""

    run_name: str
    root_uri: str
    scratch_dir: str
    """Folder on the node's own disk, for decoded views."""
    work_dir: str
    """Folder that all nodes share: logs of what benchmarks train."""
    seed: int
    """Of the supervised reference and of the masks in pictures; cells have seeds of their own."""
    evaluate: EvaluateConfig
    launch: EvaluateLaunchConfig = field(default_factory=EvaluateLaunchConfig)
    datasets: Mapping[tuple[str, str], DatasetRef]
    """Version of each (dataset, split) that a cell or the supervised reference reads."""
    steps: tuple[int, ...] | None = None
    """Evaluate the commits of these steps alone, if they are among those to be evaluated, as one of
    several jobs; None: all."""
    absent: Mapping[SevereColumn, str] = field(default_factory=dict)
    """Columns of SEVERE that the recipe asks for and that no cell here fills, for want of data;
    each with its reason."""

    @property
    def is_leading(self) -> bool:
        """Whether it also does what concerns the whole run: the supervised reference, and the grid
        as it is shown. Of jobs for single commits the one for the first, untrained, does."""
        return self.steps is None or 0 in self.steps

    def takes(self, step: int) -> bool:
        """Whether the commit of ``step`` is not left to another job."""
        return self.steps is None or step in self.steps


def evaluate_folder(run_name: str) -> str:
    """Key of the folder of cells, pictures and the supervised reference of a run."""
    return f"runs/{run_name}/evaluate"
