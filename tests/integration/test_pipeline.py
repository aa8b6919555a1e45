"""From rendered videos to scores, in one command; then again; then killed on the way."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = (sys.executable, "-P", "-c", "from sigma_pipeline.pipeline.cli import main; main()")
RENDERED = "datasets.demo.rendered={train_clips: 40, val_clips: 20}"
TINY = (
    "model.encoder={embed_dim: 24, depth: 1, num_heads: 2}",
    "model.decoder={embed_dim: 24, depth: 1, num_heads: 2}",
    "model.target={kind: mlp, hidden_dims: [32], dim: 16}",
    "model.prototypes=16",
    "train.epochs=3",
    "train.global_batch_clips=8",
    "train.micro_batch_clips=4",
    "train.commit_every_steps=10",
    "train.log_every_steps=1",
    "evaluate.supervised={dataset: demo, steps: 5, batch_clips: 8}",
)
KILLED = ("run_name=killed", "train.epochs=20", "launch.train.cpu_processes=1")
STOPPED = ("run_name=stopped", "train.epochs=20", "launch.train.cpu_processes=2")


@dataclass(frozen=True)
class Command:
    """``sigma-pipeline`` with its own store."""

    store: Path
    data: str
    """The setting that says which videos."""

    def arguments(self, *words: str, overrides: Sequence[str] = ()) -> list[str]:
        """The whole command line."""
        settings = (f"root_uri={self.store}", self.data, *TINY, *overrides)
        options = [word for setting in settings for word in ("--set", setting)]
        return [*PROGRAM, *words, "--config", "demo", *options]

    def run(self, *words: str, overrides: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
        """Runs it to its end."""
        return subprocess.run(
            self.arguments(*words, overrides=overrides),
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def start(self, *words: str, overrides: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
        """Starts it, to be stopped from outside."""
        return subprocess.Popen(
            self.arguments(*words, overrides=overrides),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def files(self, pattern: str) -> dict[str, bytes]:
        """Files of the store by path."""
        found = sorted(path for path in self.store.glob(pattern) if path.is_file())
        return {str(path.relative_to(self.store)): path.read_bytes() for path in found}

    def newest_step(self, run_name: str) -> int:
        """Of the commits; -1 before the first."""
        hint = self.store / "runs" / run_name / "train" / "latest.json"
        return int(json.loads(hint.read_text())["step"]) if hint.exists() else -1

    def tracked(self, query: str) -> list[tuple[object, ...]]:
        """Rows of MLflow's database."""
        database = self.store / "mlflow" / "mlflow.db"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A store in which the whole pipeline has run once."""
    command = Command(tmp_path_factory.mktemp("pipeline") / "store", RENDERED)
    done = command.run("run")
    assert done.returncode == 0, done.stderr
    assert "untrained" in done.stdout
    return command


def wait_for(condition: Callable[[], bool], timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "this never came to be"
        time.sleep(0.05)


def test_the_table_has_a_row_per_checkpoint_between_untrained_and_supervised(
    command: Command,
) -> None:
    shown = command.run("status").stdout

    *_, table = shown.split("\n\n")
    rows = [line.split("  ")[0] for line in table.splitlines()][:5]
    assert [row.removesuffix(" *") for row in rows] == [
        *("encoder", "untrained", "step 10", "step 15", "supervised")
    ]
    assert [row.endswith(" *") for row in rows].count(True) == 1  # the best commit
    assert all(word in table for word in ("knn top1", "linear top1", "uvos miou"))


def test_everything_is_in_one_mlflow_run_that_is_finished(command: Command) -> None:
    assert command.tracked("select status from runs where name = 'demo'") == [("FINISHED",)]

    # Other tests' runs lie in the same database.
    points = "select key, count(*) from metrics natural join runs where name = 'demo' group by key"
    curves = dict(command.tracked(points))
    assert curves["train/loss"] == 15
    assert curves["evaluate/knn/demo/top1"] == 3


def test_the_same_command_again_does_nothing(command: Command) -> None:
    def results() -> dict[str, bytes]:
        folders = ("datasets", "runs/demo/train", "runs/demo/evaluate", "runs/demo/features")
        return {k: v for folder in folders for k, v in command.files(f"{folder}/**/*").items()}

    before = results()

    done = command.run("run")

    assert done.returncode == 0
    assert "Stage train is up to date" in done.stderr
    assert "Stage evaluate is up to date" in done.stderr
    assert results() == before


def test_other_science_is_refused_and_leaves_the_run_as_it_was(command: Command) -> None:
    before = command.files("runs/demo/**/*")

    done = command.run("run", overrides=["model.prototypes=17"])

    assert done.returncode == 2
    assert done.stderr == (
        "error: run 'demo' was begun with other settings: model.prototypes: 16 -> 17. One run is "
        "one recipe: set them back, or begin another run with --set run_name=demo-2\n"
    )
    assert command.files("runs/demo/**/*") == before


def test_another_cell_is_filled_in_beside_the_others(command: Command) -> None:
    before = command.files("runs/demo/evaluate/step-*/**/*.json")
    evaluate = ("run", "--stage", "evaluate")

    done = command.run(*evaluate, overrides=["evaluate.cells.0.settings.k=3"])
    back = command.run(*evaluate)

    after = command.files("runs/demo/evaluate/step-*/**/*.json")
    assert done.returncode == 0, done.stderr
    assert before.items() <= after.items()
    assert len(after) == len(before) + 3
    assert "knn-" in done.stdout
    assert "knn-" not in back.stdout


def test_a_command_killed_in_training_is_finished_by_the_same_command(command: Command) -> None:
    stage = ("run", "--stage", "train")
    process = command.start(*stage, overrides=KILLED)
    wait_for(lambda: command.newest_step("killed") >= 10)
    process.kill()
    process.wait()
    reached = command.newest_step("killed")

    done = command.run(*stage, overrides=KILLED)

    assert reached < 100, "it was killed too late to show anything"
    assert done.returncode == 0, done.stderr
    assert command.newest_step("killed") == 100
    steps = command.tracked(
        "select step from metrics join runs using (run_uuid) "
        "where name = 'killed' and key = 'train/loss' order by step"
    )
    assert steps == [(step,) for step in range(1, 101)]


def test_a_command_asked_to_stop_saves_and_ends_with_75(command: Command) -> None:
    stage = ("run", "--stage", "train")
    process = command.start(*stage, overrides=STOPPED)
    wait_for(lambda: command.newest_step("stopped") >= 10)
    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=300) == 75
    assert 10 <= command.newest_step("stopped") < 100
    status = "select status from runs where name = 'stopped'"
    assert command.tracked(status) == [("KILLED",)]
    assert command.run(*stage, overrides=STOPPED).returncode == 0
    assert command.newest_step("stopped") == 100
    assert command.tracked(status) == [("FINISHED",)]


def test_ones_own_videos_go_through_the_same_recipe(tmp_path: Path, real_videos: Path) -> None:
    source = real_videos / "actions" / "weizmann64"
    own = Command(tmp_path / "store", f"shard.source={source}")

    done = own.run("run")

    assert done.returncode == 0, done.stderr
    assert "demo/train: 32 samples" in done.stdout
    assert "uvos on demo is skipped: " in done.stdout
    (scores,) = own.files("runs/demo/evaluate/step-00000000/knn/demo/0-*.json").values()
    assert json.loads(scores)["scores"][0]["samples"] == 8
