"""The code and the recipe of one call of the command, kept with the run before any job starts."""

from sigma_pipeline.jobs.submission import Snapshot
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.run_recipe import resolved_recipe
from sigma_pipeline.pipeline.services import Services


def take_snapshot(config: PipelineConfig, services: Services) -> Snapshot:
    """What the jobs of this call are to run from.

    Raises:
        StageError: the copy of the code in the work_dir was changed.
    """
    recipe = resolved_recipe(services.storage, config)
    return Snapshot.take(services.storage, config.run_name, config.work_path, config.launch, recipe)
