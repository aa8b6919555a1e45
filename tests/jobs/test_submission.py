"""What is written down of jobs that are submitted."""

import json
from dataclasses import asdict
from pathlib import Path

from sigma_pipeline.infra.storage import open_storage, write_json
from sigma_pipeline.jobs.config import LaunchConfig
from sigma_pipeline.jobs.slurm import JobView
from sigma_pipeline.jobs.submission import Snapshot, read_submissions, record_submission
from tests.jobs.snapshots import make_snapshot


def test_recipe_code_packages_and_the_state_of_git_are_there_before_any_job(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "store"))

    snapshot = Snapshot.take(
        storage, "tiny", tmp_path / "work", LaunchConfig(), recipe="run_name: tiny\n"
    )

    folder = f"runs/tiny/submitted/{snapshot.name}"
    names = [key.removeprefix(f"{folder}/") for key in storage.list(folder)]
    assert sorted(names) == ["code.tar.gz", "git.diff", "git.json", "packages.txt", "recipe.yaml"]
    assert storage.read(f"{folder}/recipe.yaml") == b"run_name: tiny\n"
    git = json.loads(storage.read(f"{folder}/git.json"))
    assert git is None or set(git) == {"commit", "branch", "is_dirty"}
    assert (snapshot.code / "sigma_pipeline" / "jobs" / "submission.py").is_file()
    assert read_submissions(storage, "tiny") == []


def test_jobs_are_read_in_the_order_of_their_submission(tmp_path: Path) -> None:
    snapshot, folder = make_snapshot(tmp_path), tmp_path / "work" / "job"
    train = record_submission(snapshot, "train", "7", folder, world_size=4)
    evaluate = record_submission(snapshot, "evaluate", "8", folder, world_size=1, step=300)

    found = read_submissions(open_storage(snapshot.root_uri), "tiny")

    assert found == [train, evaluate]
    assert (found[0].job_id, found[0].cluster, found[0].world_size) == ("7", "slurm", 4)
    assert (found[1].step, found[1].folder) == (300, str(folder))
    assert found[1].snapshot == snapshot.name
    assert [one.job_name for one in found] == ["tiny-train", "tiny-evaluate"]


def test_a_record_from_before_names_were_kept_goes_by_the_name_of_the_run(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path)
    storage = open_storage(snapshot.root_uri)
    submission = record_submission(snapshot, "train", "7", tmp_path, world_size=4)
    old = {key: value for key, value in asdict(submission).items() if key != "job_name"}
    write_json(storage, f"runs/tiny/submitted/{submission.submission}.json", old)

    (found,) = read_submissions(storage, "tiny")

    names = ("tiny-train", "others-train", "")
    assert [found.is_job(JobView(job_id="7", state="", name=name)) for name in names] == [
        True,
        False,
        True,
    ]
