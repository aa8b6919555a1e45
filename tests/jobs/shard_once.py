"""Shards a folder in a process of its own: ``shard_once.py SOURCE STORE SCRATCH``."""

import logging
import sys
from pathlib import Path

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig, TranscodeConfig
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.shard import plan_dataset, shard_dataset

# In this process and its workers: sharding needs none, and importing it takes most of the time.
sys.modules["torch"] = None  # type: ignore[assignment]


def main(source: str, store: str, scratch: str) -> None:
    """Two videos a shard, two workers; what is logged goes to stderr."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    small = TranscodeConfig(short_side_px=64)
    shard = ShardConfig(samples_per_shard=2)
    dataset = DatasetConfig(source=source, media="transcode", transcode=small)
    shard_dataset(
        plan_dataset("set", dataset, shard, Path(scratch)),
        storage=open_storage(store),
        shard=shard,
        workers=2,
        journal=None,
        attempt=new_attempt(),
        force=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
