"""What arrives in a real MLflow, and that it arrives once."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sigma_pipeline.infra.mlflow_run import public_address

if TYPE_CHECKING:
    from tests.infra.conftest import TrackedRun

# MLflow 3.17 uses an option that SQLAlchemy is going to remove.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


def test_numbers_arrive_with_their_steps_and_syncing_again_adds_none(run: "TrackedRun") -> None:
    run.write_steps("a1", range(3), 0.5)
    tracker = run.tracker()

    counts = [tracker.sync(), tracker.sync(), run.tracker().sync()]

    assert counts == [3, 0, 0]
    assert run.history("train/loss") == [(0, 0.5), (1, 0.5), (2, 0.5)]


def test_steps_that_a_second_attempt_repeats_are_not_drawn_twice(run: "TrackedRun") -> None:
    run.write_steps("a1", range(4), 1.0)
    tracker = run.tracker()
    tracker.sync()
    run.write_steps("a2", range(2, 6), 2.0)

    assert tracker.sync() == 2
    assert run.history("train/loss") == [
        (0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0),
    ]  # fmt: skip


def test_a_score_of_an_older_step_still_arrives(run: "TrackedRun") -> None:
    tracker = run.tracker()
    for attempt, step in (("a1", 2000), ("a2", 1000)):
        pen = run.journal(attempt)
        pen.metrics(step, {"evaluate/knn/demo/top1": 0.5})
        pen.close()
        tracker.sync()

    assert [step for step, _ in run.history("evaluate/knn/demo/top1")] == [1000, 2000]


def test_more_numbers_than_one_call_takes_all_arrive(run: "TrackedRun") -> None:
    run.write_steps("a1", range(2100), 1.0)

    assert run.tracker().sync() == 2100
    assert [step for step, _ in run.history("train/loss")] == list(range(2100))


def test_a_number_that_is_not_finite_or_badly_named_holds_nothing_up(run: "TrackedRun") -> None:
    pen = run.journal("a1")
    pen.metrics(1, {"train/loss": math.nan, "train/norm": math.inf, "/evaluate//../a@b": 1.0})
    pen.close()

    assert run.tracker().sync() == 3
    assert math.isnan(run.history("train/loss")[0][1])
    assert run.history("train/norm")[0][1] > 1e300
    assert run.history("evaluate/a_b") == [(1, 1.0)]


def test_parameters_keep_their_first_value_and_tags_their_last(run: "TrackedRun") -> None:
    for attempt, value in (("a1", "first"), ("a2", "second")):
        pen = run.journal(attempt)
        pen.parameters({"seed": value, f"only.{attempt}": "x" * 7000})
        pen.tags({"host": value})
        pen.close()
        run.tracker().sync()

    data = run.in_mlflow().data
    assert data.params["seed"] == "first"
    assert len(data.params["only.a2"]) == 6000
    assert data.tags["host"] == "second"


def test_of_jobs_that_run_at_a_time_the_last_word_counts_whichever_began_first(
    run: "TrackedRun",
) -> None:
    earlier, later = run.journal("a1"), run.journal("a2")
    later.tags({"best_step": "10"})
    time.sleep(0.002)  # the journal's clock counts milliseconds
    earlier.tags({"best_step": "20"})
    earlier.close()
    later.close()

    run.tracker().sync()

    assert run.in_mlflow().data.tags["best_step"] == "20"


def test_the_recipe_arrives_as_a_file_and_its_newest_version_stays(run: "TrackedRun") -> None:
    key = f"runs/{run.name}/config.yaml"
    for attempt in ("a1", "a2"):
        run.storage.write(key, attempt.encode())
        pen = run.journal(attempt)
        pen.artifact("recipe/config.yaml", key)
        pen.close()
        run.tracker().sync()

    path = run.client.download_artifacts(run.run_id, "recipe/config.yaml")
    assert run.files("recipe") == ["recipe/config.yaml"]
    assert Path(path).read_bytes() == b"a2"


def test_a_picture_appears_once_per_step(run: "TrackedRun") -> None:
    for attempt, steps in (("a1", (100, 200)), ("a2", (200, 300))):
        pen = run.journal(attempt)
        for step in steps:
            key = run.put_picture(f"runs/{run.name}/{step}.png")
            pen.picture("train/masks", step, key)
        pen.close()
        run.tracker().sync()

    pictures = [path for path in run.files("images") if path.endswith(".png")]
    assert sorted(path.split("+")[2] for path in pictures) == ["100", "200", "300"]


def test_files_that_are_gone_or_damaged_are_left_out_with_a_warning(
    run: "TrackedRun", caplog: pytest.LogCaptureFixture
) -> None:
    run.storage.write("damaged.png", b"no picture")
    pen = run.journal("a1")
    pen.picture("train/masks", 1, "damaged.png")
    pen.picture("train/masks", 2, "absent.png")
    pen.artifact("recipe/config.yaml", "absent.yaml")
    pen.metrics(1, {"train/loss": 1.0})
    pen.close()

    assert run.tracker().sync() == 1
    assert caplog.text.count("is left out") == 3


def test_a_dataset_is_an_input_of_the_run_once(run: "TrackedRun") -> None:
    for attempt in ("a1", "a2"):
        pen = run.journal(attempt)
        pen.dataset("demo", "train", "v1", "0" * 64, "/store/datasets/demo/train/v1")
        pen.close()
        run.tracker().sync()

    inputs = run.in_mlflow().inputs.dataset_inputs
    assert [(entry.dataset.name, entry.dataset.digest) for entry in inputs] == [
        ("demo/train", "0" * 36)
    ]
    assert '"/store/datasets/demo/train/v1"' in inputs[0].dataset.source


def test_passwords_stay_out_of_records_and_messages() -> None:
    assert public_address("https://me:secret@host:80/a") == "https://host:80/a"
    assert public_address("sqlite:////data/a@b/mlflow.db") == "sqlite:////data/a@b/mlflow.db"
