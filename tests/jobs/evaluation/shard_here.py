"""Datasets made from files in the process of the test, without workers."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.samples import prepare
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.shard import plan_dataset, shard_dataset
from sigma_pipeline.jobs.shard_progress import Progress
from sigma_pipeline.jobs.shard_unit import UnitTask, build_unit


def shard_here(
    storage: Storage, name: str, scratch_dir: Path, **settings: Any
) -> Mapping[tuple[str, str], DatasetRef]:
    """The splits of a dataset as a request names them; ``settings`` are those of a recipe."""
    shard = ShardConfig(samples_per_shard=64, max_rejected_fraction=0)
    plan = plan_dataset(name, DatasetConfig.model_validate(settings), shard, scratch_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sigma_pipeline.jobs.shard.build_units", _build_units)
        shard_dataset(
            plan,
            storage=storage,
            shard=shard,
            workers=1,
            journal=None,
            attempt="a1",
            force=False,
        )
    return {(name, split): ref for split, ref in plan.refs.items()}


def _build_units(
    tasks: Sequence[UnitTask], *, workers: int, scratch_dir: Path, progress: Progress
) -> None:
    del workers
    for task in tasks:
        build_unit(task, partial(prepare, settings=task.settings), progress.add, scratch_dir)
