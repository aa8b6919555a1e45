"""What was submitted for a run: one record per job, and the state of code and recipe it came from.

Both lie in the run's folder. The snapshot is there before its first job, and a job's record as soon
as SLURM has given it a number.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.storage import Storage, open_storage, read_json, write_json
from sigma_pipeline.jobs.code_copy import copy_code, pack_code, package_folder
from sigma_pipeline.jobs.provenance import describe_checkout, list_packages
from sigma_pipeline.jobs.slurm import JobView

if TYPE_CHECKING:  # pydantic is not needed to read what was submitted
    from sigma_pipeline.jobs.config import LaunchConfig

JobStage = Literal["shard", "train", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The code and the settings that the jobs of one call of the command are submitted with."""

    name: str
    """``runs/<run>/submitted/<name>/`` holds recipe, code, and what is known of their origin."""
    run_name: str
    root_uri: str
    work_dir: Path
    """Shared by all nodes; submitit's files and the code go below it."""
    launch: "LaunchConfig"
    code: Path
    """Folder on the import path of the jobs."""

    @property
    def folder(self) -> Path:
        """Where submitit's files of the run's jobs go; each job makes a folder of its own in it."""
        return self.work_dir / "submitit" / self.run_name

    @classmethod
    def take(
        cls, storage: Storage, run_name: str, work_dir: Path, launch: "LaunchConfig", recipe: str
    ) -> Self:
        """Copies the code, and writes down what is submitted: recipe, code, packages, git's state.

        Args:
            storage: where the run lies.
            run_name: of the run.
            work_dir: folder that all nodes share.
            launch: where the jobs are to run.
            recipe: resolved; must not hold credentials.

        Raises:
            StageError: the copy of the code in ``work_dir`` was changed.
        """
        code, name = copy_code(work_dir), new_attempt()
        git, diff = describe_checkout(package_folder())
        files = {
            "recipe.yaml": recipe.encode(),
            "git.json": json.dumps(git, indent=2).encode() + b"\n",
            "git.diff": diff,
            "packages.txt": "".join(f"{line}\n" for line in list_packages()).encode(),
            "code.tar.gz": pack_code(),
        }
        for file, content in files.items():
            storage.write(f"{_folder(run_name)}/{name}/{file}", content)
        return cls(
            name=name,
            run_name=run_name,
            root_uri=storage.root_uri,
            work_dir=work_dir,
            launch=launch,
            code=code,
        )


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One job that was handed to an executor."""

    submission: str
    """Its id; ids sort by time."""
    stage: JobStage
    job_id: str
    """SLURM's number; of an array, that of the whole. Else of the controlling process."""
    job_name: str
    """What its name in SLURM begins with."""
    cluster: str
    folder: str
    """Absolute: where submitit's files and the logs of all ranks lie."""
    world_size: int
    """Processes, or tasks of the array."""
    time_ms: int
    step: int | None
    """The commit that is evaluated; None for all of them, and for other stages."""
    snapshot: str
    """Name of the snapshot it runs from."""

    def is_job(self, view: JobView) -> bool:
        """Whether SLURM means this job by its number: another cluster has the same numbers, and so
        has this one when its numbers have begun anew.
        """
        return not view.name or view.name.startswith(self.job_name)


def job_name(run_name: str, stage: JobStage) -> str:
    """What the names of a run's jobs begin with, in SLURM's lists."""
    return f"{run_name}-{stage}"


def record_submission(
    snapshot: Snapshot,
    stage: JobStage,
    job_id: str,
    folder: Path,
    *,
    world_size: int,
    step: int | None = None,
) -> Submission:
    """Writes down that a job was submitted."""
    submission = Submission(
        submission=new_attempt(),
        stage=stage,
        job_id=job_id,
        job_name=job_name(snapshot.run_name, stage),
        cluster=snapshot.launch.cluster,
        folder=str(folder.absolute()),
        world_size=world_size,
        time_ms=time.time_ns() // 1_000_000,
        step=step,
        snapshot=snapshot.name,
    )
    key = f"{_folder(snapshot.run_name)}/{submission.submission}.json"
    write_json(open_storage(snapshot.root_uri), key, asdict(submission))
    return submission


def read_submissions(storage: Storage, run_name: str) -> list[Submission]:
    """All jobs that were ever submitted for a run, in the order of time."""
    folder = _folder(run_name)
    keys = _records(storage.list(folder), folder)
    old: dict[str, Any] = {"job_name": run_name}  # records had none
    return [Submission(**(old | read_json(storage, key))) for key in keys]


def _records(keys: Iterable[str], folder: str) -> list[str]:
    """Records lie in the folder itself, snapshots in folders of their own."""
    return sorted(
        key for key in keys if key.endswith(".json") and "/" not in key.removeprefix(f"{folder}/")
    )


def _folder(run_name: str) -> str:
    return f"runs/{run_name}/submitted"
