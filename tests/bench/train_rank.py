"""One process of a training that is measured: a rank, without command line, launcher and MLflow.

    python -m tests.bench.train_rank REQUEST RANK WORLD_SIZE

REQUEST is a pickled ``TrainRequest`` of the process that starts this one; beside it the ranks meet.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sigma_pipeline.data_prep.manifest import read_manifest
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.launch_train import fitted
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import RankPlace, TrainRequest
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.services import open_services
from sigma_pipeline.pipeline.training import recorded_request
from sigma_pipeline.pipeline.versions import resolve_refs


class Ranks:
    """The processes of one training."""

    def __init__(self, config: PipelineConfig, world_size: int) -> None:
        folder = config.work_path / config.run_name
        folder.mkdir(parents=True)
        request = folder / "request.pickle"
        request.write_bytes(pickle.dumps(request_of(config)))
        self._log = (folder / "log.txt").open("w")
        self._log_path = folder / "log.txt"
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._processes = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.bench.train_rank",
                    request,
                    str(rank),
                    str(world_size),
                ],
                stdout=self._log,
                stderr=self._log,
                env=environment,
            )
            for rank in range(world_size)
        ]

    def wait(self) -> None:
        """Until all have ended.

        Raises:
            SystemExit: one failed; says where its log is.
        """
        statuses = [process.wait() for process in self._processes]
        self._log.close()
        if any(statuses):
            raise SystemExit(f"training ended with {statuses}; see {self._log_path}")


def request_of(config: PipelineConfig) -> TrainRequest:
    """What the train stage asks for."""
    services = open_services(config, show=lambda _line: None)
    return fitted(recorded_request(config, services), config.launch)


def num_samples(config: PipelineConfig) -> int:
    """Videos of the split that is trained on."""
    storage = open_storage(config.root_uri)
    refs = resolve_refs(storage, config, config.trained_splits)
    manifests = [read_manifest(storage, ref) for ref in refs.values()]
    return sum(int(manifest["samples"]) for manifest in manifests if manifest is not None)


def main(arguments: Sequence[str]) -> None:
    """Trains to the end."""
    path, rank, world_size = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    request = pickle.loads(path.read_bytes())  # of our own parent
    run_train(request, RankPlace(rank, world_size, rank, str(path.with_name("rendezvous"))))


if __name__ == "__main__":
    main(sys.argv[1:])
