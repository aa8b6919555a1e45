"""Shards a folder in a process of its own: ``shard_once.py SOURCE STORE SCRATCH``."""

import sys
from pathlib import Path

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.shard import plan_dataset, shard_dataset


def main(source: str, store: str, scratch: str) -> None:
    """Two videos a shard, two workers."""
    shard = ShardConfig(samples_per_shard=2)
    shard_dataset(
        plan_dataset("set", DatasetConfig(source=source), shard, Path(scratch)),
        storage=open_storage(store),
        shard=shard,
        workers=2,
        journal=None,
        attempt=new_attempt(),
        force=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
