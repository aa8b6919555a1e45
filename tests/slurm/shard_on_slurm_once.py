"""Shards a folder by a SLURM array of its own: ``SOURCE FOLDER TASKS``.

FOLDER is shared by all nodes; store, logs and scratch go below it.
"""

import sys
from pathlib import Path

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.infra.errors import PipelineError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.logs import configure_logging
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.config import LaunchConfig, ShardLaunchConfig
from sigma_pipeline.jobs.launch_shard import shard_on_slurm
from sigma_pipeline.jobs.shard import plan_dataset
from sigma_pipeline.pipeline.stop_signals import interruptible


def main(source: str, folder: str, tasks: str) -> None:
    """Two videos a shard; each task has a node for itself."""
    configure_logging()
    shard = ShardConfig(samples_per_shard=2)
    resources = ShardLaunchConfig(workers=1, tasks=int(tasks), cpus_per_task=4, timeout_min=20)
    plan = plan_dataset("set", DatasetConfig(source=source), shard, Path(folder, "scratch"))
    try:
        with interruptible():
            shard_on_slurm(
                plan,
                storage=open_storage(f"{folder}/store"),
                shard=shard,
                launch=LaunchConfig(cluster="slurm", shard=resources),
                work_dir=Path(folder, "work"),
                journal=None,
                attempt=new_attempt(),
                force=False,
            )
    except PipelineError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main(*sys.argv[1:])
