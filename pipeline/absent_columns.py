"""Columns of SEVERE whose data is not there: their cells are left out, and tables say why."""

from collections.abc import Collection

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import MissingInputError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.config import EvaluateConfig
from sigma_pipeline.jobs.severe_columns import SevereColumn
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.versions import resolve_refs

Absent = dict[SevereColumn, str]
"""Why each column is."""


def absent_columns(
    config: PipelineConfig,
    storage: Storage,
    *,
    promised: Collection[DatasetRef] = (),
    made: Collection[tuple[str, str]] = (),
) -> Absent:
    """Columns that cells of the recipe are to fill, and whose datasets are not sharded.

    Args:
        config: of the run.
        storage: where datasets lie.
        promised: versions that need not be finished yet, as jobs that were submitted make them.
        made: (dataset, split) of what a stage before will have made.
    """
    absent: Absent = {}
    for number, cell in enumerate(config.evaluate.cells):
        if cell.column is None:
            continue
        splits = [place for place in config.cell_splits(number) if place not in made]
        try:
            resolve_refs(storage, config, splits, promised=promised)
        except MissingInputError:
            absent[cell.column] = (
                f"dataset '{cell.dataset}' is not sharded with these settings; make it with: "
                f"sigma-pipeline run --stage shard --set 'shard.datasets=[{cell.dataset}]' and the "
                f"--config and --set of run '{config.run_name}'"
            )
    return absent


def without_columns(config: PipelineConfig, absent: Collection[SevereColumn]) -> PipelineConfig:
    """The recipe without the cells of these columns.

    Raises:
        MissingInputError: none is left, though it has some.
    """
    cells = config.evaluate.cells
    kept = tuple(cell for cell in cells if cell.column not in absent)
    if cells and not kept:
        missing = ", ".join(dict.fromkeys(cell.dataset for cell in cells))
        raise MissingInputError(
            f"none of the recipe's columns has its data: shard one of {missing}, with: "
            "sigma-pipeline run --stage shard --set 'shard.datasets=[NAME]' and the --config and "
            f"--set of run '{config.run_name}'"
        )
    evaluate: EvaluateConfig = config.evaluate.model_copy(update={"cells": kept})
    return config.model_copy(update={"evaluate": evaluate})
