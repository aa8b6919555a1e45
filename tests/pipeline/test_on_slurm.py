"""Stages as SLURM gets them: in which order, from which state, and nothing half."""

import pickle
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.infra.errors import MissingInputError, StageError
from sigma_pipeline.infra.storage import write_json
from sigma_pipeline.jobs.submission import Submission, read_submissions
from sigma_pipeline.pipeline.config import load_config
from sigma_pipeline.pipeline.on_slurm import describe_jobs, is_submitted
from sigma_pipeline.pipeline.overrides import parse_yaml
from sigma_pipeline.pipeline.run_recipe import recorded_versions
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.stage_names import StageName
from sigma_pipeline.pipeline.stages import Wishes, run_stages
from tests.fake_slurm import FakeSlurm, options

ALL = tuple(StageName)
CELLS = "evaluate.cells=[{benchmark: knn, dataset: clips}]"

Submit = Callable[..., list[Submission]]


@pytest.fixture(autouse=True)
def source(tmp_path: Path) -> Path:
    """Ten small videos."""
    (tmp_path / "videos").mkdir()
    for number in range(10):
        frames = np.full((3, 16, 16, 3), 20 * number, dtype=np.uint8)
        write_video(tmp_path / f"videos/{number}.mp4", frames, fps=10, crf=20, gop_frames=3)
    return tmp_path / "videos"


@pytest.fixture
def submit(recipe_path: str, services: Services, sbatch: FakeSlurm) -> Submit:
    """Runs stages of the recipe with ``launch.cluster=slurm``; what was submitted so far."""

    def run(*names: StageName, overrides: tuple[str, ...] = (), **wishes: bool) -> list[Submission]:
        config = load_config(recipe_path, ("launch.cluster=slurm", CELLS, *overrides))
        run_stages(names, config, services, Wishes(**wishes))
        return read_submissions(services.storage, config.run_name)

    return run


def task_of(submission: Submission) -> Any:
    path = Path(submission.folder, f"{submission.job_id}_submitted.pkl")
    return pickle.loads(path.read_bytes()).function


def test_all_stages_are_submitted_at_once_each_after_what_it_reads(
    submit: Submit, sbatch: FakeSlurm, services: Services
) -> None:
    array, train = submit(*ALL)

    assert (array.stage, train.stage) == ("shard", "train")
    given = options(sbatch.scripts[1])
    assert given["dependency"] == f"afterany:{array.job_id}"
    assert given["kill-on-invalid-dep"] == "yes"
    task = task_of(train)
    versions = recorded_versions(services.storage, "trial")["clips"]
    assert [ref.version for ref in task.request.datasets] == [versions["train"]]
    evaluated = task.evaluation.task.request.datasets
    assert evaluated["clips", "val"].version == versions["val"]
    recipe = services.storage.read(f"runs/trial/submitted/{train.snapshot}/recipe.yaml")
    assert parse_yaml(recipe.decode())["dataset_versions"]["clips"] == versions
    assert task.evaluation.snapshot.name == train.snapshot


@pytest.mark.usefixtures("sharded")
def test_training_alone_waits_for_nothing_and_submits_no_evaluation(
    submit: Submit, sbatch: FakeSlurm
) -> None:
    (train,) = submit(StageName.TRAIN)

    assert "dependency" not in options(sbatch.scripts[0])
    assert task_of(train).evaluation is None


def test_where_jobs_may_not_submit_one_follows_the_training(
    submit: Submit, sbatch: FakeSlurm
) -> None:
    _, train, follower = submit(*ALL, overrides=("launch.jobs_may_submit=false",))

    assert follower.stage == "evaluate"
    assert options(sbatch.scripts[2])["dependency"] == f"after:{train.job_id}"
    assert task_of(follower).call.training_jobs == (train.job_id,)
    assert task_of(train).evaluation is None


def test_where_jobs_may_not_be_queued_again_either_a_chain_of_jobs_follows(
    submit: Submit, sbatch: FakeSlurm
) -> None:
    chain = "launch.train={continue_by: chain, chain_jobs: 2, cpu_processes: 1}"

    _, first, _, *followers = submit(*ALL, overrides=("launch.jobs_may_submit=false", chain))

    assert [one.stage for one in followers] == ["evaluate", "evaluate"]
    for script in sbatch.scripts[3:]:
        assert options(script)["dependency"] == f"after:{first.job_id},singleton"
        assert "no-requeue" in options(script)
    for follower in followers:
        assert not hasattr(task_of(follower), "checkpoint")  # submitit does not queue it again
        assert first.job_id in task_of(follower).training_jobs


def test_what_is_trained_is_only_evaluated(
    submit: Submit, services: Services, commit: Callable[[int], None], sbatch: FakeSlurm
) -> None:
    commit(0)
    write_json(services.storage, "runs/trial/train/manifest.json", {})

    array, evaluation = submit(*ALL)

    assert (array.stage, evaluation.stage) == ("shard", "evaluate")
    assert options(sbatch.scripts[1])["dependency"] == f"afterany:{array.job_id}"
    assert task_of(evaluation).call.training_jobs is None


def test_evaluation_alone_needs_a_commit(submit: Submit, sbatch: FakeSlurm) -> None:
    with pytest.raises(MissingInputError, match="no commit to evaluate"):
        submit(StageName.EVALUATE)

    assert sbatch.scripts == []


def test_jobs_before_one_that_is_refused_are_cancelled(submit: Submit, sbatch: FakeSlurm) -> None:
    sbatch.refuse_after(1, "Invalid qos specification")

    with pytest.raises(StageError, match=r"not take the job:.*Invalid qos"):
        submit(*ALL)

    assert sbatch.states == {"101": "CANCELLED"}


def test_a_stop_between_two_jobs_leaves_none(
    submit: Submit, sbatch: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sigma_pipeline.pipeline.on_slurm.submit_train", stop)

    with pytest.raises(KeyboardInterrupt):
        submit(*ALL)

    assert sbatch.states == {"101": "CANCELLED"}


def test_a_run_in_training_is_not_submitted_twice(submit: Submit, sbatch: FakeSlurm) -> None:
    submit(*ALL)

    with pytest.raises(StageError, match="trained by SLURM job 102 already, which is PENDING"):
        submit(*ALL)

    assert len(sbatch.scripts) == 2


def test_a_servers_password_reaches_the_job_and_no_record(
    submit: Submit, services: Services
) -> None:
    password = secrets.token_hex(8)
    uri = f"http://me:{password}@mlflow:5000"

    _, train = submit(*ALL, overrides=(f"track.tracking_uri={uri}",))

    assert task_of(train).track.tracking_uri == uri
    records = [services.storage.read(key) for key in services.storage.list("runs")]
    assert any(b"http://mlflow:5000" in record for record in records)
    assert not any(password.encode() in record for record in records)


@pytest.mark.usefixtures("sharded")
def test_a_database_file_is_left_to_the_command(submit: Submit, tmp_path: Path) -> None:
    (train,) = submit(StageName.TRAIN, overrides=(f"track.tracking_uri=sqlite:///{tmp_path}/db",))

    assert task_of(train).track is None


def test_a_dry_run_tells_what_slurm_would_be_asked_for(recipe_path: str) -> None:
    config = load_config(
        recipe_path,
        (
            "launch.cluster=slurm",
            "launch.train={nodes: 4, cpu_processes: 2, continue_by: chain, chain_jobs: 3}",
            "launch.evaluate={cpus: 8, gpus: 1, memory_gib: 64}",
        ),
    )

    shard, train, evaluate = (line for name in ALL for line in describe_jobs(name, config))

    assert "a SLURM array of up to 4 tasks of 1 node, 1 process of 2 CPUs, 720 min" in shard
    assert train.startswith("3 SLURM jobs, one after the other, of 4 nodes, 8 processes of 1 CPU")
    assert "1 node, 1 process of 8 CPUs, 1 GPU a node, 64 GiB a node, 240 min" in evaluate
    assert not list(describe_jobs(StageName.TRAIN, load_config(recipe_path)))


def test_sharding_alone_is_waited_for(recipe_path: str) -> None:
    on_slurm = load_config(recipe_path, ("launch.cluster=slurm",))

    assert not is_submitted((StageName.SHARD,), on_slurm)
    assert is_submitted((StageName.SHARD, StageName.TRAIN), on_slurm)
    assert not is_submitted(ALL, load_config(recipe_path))
