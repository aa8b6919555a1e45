"""A small recipe, a store with what earlier stages would have left, and a job that does nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import PipelineError
from sigma_pipeline.infra.storage import open_storage, write_json
from sigma_pipeline.jobs.commits import Commit, put_commit
from sigma_pipeline.jobs.submission import Snapshot
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.pipeline.config import PipelineConfig, load_config
from sigma_pipeline.pipeline.services import Services
from tests.pipeline.slurm_fake import FakeSlurm

TRAIN_REF = DatasetRef("clips", "train", "v1")


@pytest.fixture
def recipe_values(tmp_path: Path) -> dict[str, Any]:
    """The least that makes a recipe."""
    return {
        "run_name": "trial",
        "root_uri": str(tmp_path / "store"),
        "datasets": {"clips": {"source": str(tmp_path / "videos")}},
        "train": {"dataset": "clips", "optimizer": {"warmup_epochs": 1}},
    }


@pytest.fixture
def recipe_path(tmp_path: Path, recipe_values: dict[str, Any]) -> str:
    """That recipe as a file."""
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump(recipe_values, sort_keys=False))
    return str(path)


@pytest.fixture
def config(recipe_path: str) -> PipelineConfig:
    """That recipe, loaded."""
    return load_config(recipe_path)


@pytest.fixture
def shown() -> list[str]:
    """Lines that were shown to the user."""
    return []


@pytest.fixture
def services(config: PipelineConfig, shown: list[str]) -> Services:
    """Services of an empty store."""
    storage = open_storage(config.root_uri)
    attempt = "20260101T000000000000-aaaaaa"
    return Services(storage, config.run_name, attempt, show=shown.append)


@pytest.fixture
def sharded(services: Services) -> DatasetRef:
    """The training split, complete in the store."""
    manifest = {"version": TRAIN_REF.version, "settings": {}, "samples": 1030}
    write_json(services.storage, TRAIN_REF.manifest_key, manifest)
    return TRAIN_REF


@pytest.fixture
def commit(services: Services) -> Callable[[int], None]:
    """Puts a commit of the run at a step."""

    def put(step: int) -> None:
        put_commit(
            services.storage,
            Commit(
                run_name=services.run_name,
                step=step,
                attempt=services.attempt,
                epoch=0,
                batch=step,
                global_batch_clips=512,
                world_size=1,
                config_fingerprint="",
                datasets=(),
                model={},
                weights_sha256="",
                canary_loss=1.0,
            ),
        )

    return put


class FakeJob:
    """Training that runs for a number of looks at it, or until it is stopped."""

    def __init__(self, log_path: Path, outcome: dict[str, Any] | PipelineError) -> None:
        self.log_path = log_path
        self.job_id = "4711"
        self.folder = log_path.parent
        self.world_size = 2
        self.outcome = outcome
        self.looks_left = 2
        self.requests: list[TrainRequest] = []
        self.code: Path | None = None
        self.is_stopped = False

    def poll(self) -> str:
        """See ``TrainJob``."""
        self.looks_left -= 1
        return "running" if self.looks_left >= 0 and not self.is_stopped else "ended"

    def wait(self) -> dict[str, Any]:
        """See ``TrainJob``."""
        if isinstance(self.outcome, PipelineError):
            raise self.outcome
        return self.outcome

    def stop(self) -> None:
        """See ``TrainJob``."""
        self.is_stopped = True


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeJob:
    """What ``launch_train`` gives; it notes what it was asked for."""
    job = FakeJob(tmp_path / "log", {"state": "finished", "step": 4, "commit": "c"})

    def launch(request: TrainRequest, *_: object, code: Path) -> FakeJob:
        job.requests.append(request)
        job.code = code
        job.log_path.write_text("step 1\n")
        return job

    def take_snapshot(config: PipelineConfig, _: Services) -> Snapshot:
        return Snapshot(
            name="20260101T000000000000-bbbbbb",
            run_name=config.run_name,
            root_uri=config.root_uri,
            work_dir=config.work_path,
            launch=config.launch,
            code=config.work_path / "code",
        )

    monkeypatch.setattr("sigma_pipeline.pipeline.training.launch_train", launch)
    monkeypatch.setattr("sigma_pipeline.pipeline.training.take_snapshot", take_snapshot)
    monkeypatch.setattr("sigma_pipeline.pipeline.training._POLL_INTERVAL_S", 0.0)
    return job


@pytest.fixture
def slurm(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """SLURM as the pipeline asks it; the logs of its jobs lie in ``tmp_path / "jobs"``."""
    (tmp_path / "jobs").mkdir()
    slurm = FakeSlurm(services.storage, services.run_name, str(tmp_path / "jobs"))
    slurm.install(monkeypatch)
    return slurm
