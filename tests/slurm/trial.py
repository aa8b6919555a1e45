"""A run of a tiny recipe, through the command, and what it leaves in the store."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from subprocess import DEVNULL, PIPE, CompletedProcess, Popen
from typing import Any

import numpy as np
import yaml

from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import open_storage
from tests.slurm.cluster import Cluster, wait_until
from tests.tiny import TINY_MODEL, TINY_TRAIN

NUM_VIDEOS = 40
TOTAL_STEPS = 60
COMMIT_EVERY_STEPS = 10
RECIPE: dict[str, Any] = {
    "seed": 3,
    "datasets": {"noise": {"splits": {"train": 0.8, "val": 0.2}}},
    "shard": {"samples_per_shard": 8},
    "model": {**TINY_MODEL, "assignment": "soft"},  # rounding stays rounding on other ranks
    "train": {
        **TINY_TRAIN,
        "epochs": 15,
        "micro_batch_clips": 2,
        "commit_every_steps": COMMIT_EVERY_STEPS,
    },
    "launch": {
        "cluster": "slurm",
        "shard": {"tasks": 2, "workers": 1, "timeout_min": 10},
        "train": {"nodes": 2, "cpu_processes": 1, "timeout_min": 30, "backoff_s": 1},
        "evaluate": {"cpus": 1, "timeout_min": 10},
    },
}

Curve = dict[int, tuple[float, float]]


def write_videos(folder: Path, count: int = NUM_VIDEOS) -> None:
    """Two classes of noise that drifts, to the left or to the right."""
    draws = np.random.default_rng(0)
    for number in range(count):
        kind = ("left", "right")[number % 2]
        blocks = draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        picture = blocks.repeat(8, axis=0).repeat(8, axis=1)
        shift = 1 if kind == "right" else -1
        frames = np.stack([np.roll(picture, shift * frame, axis=1) for frame in range(8)])
        path = folder / kind / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, frames, fps=10, crf=20, gop_frames=8)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, changed section by section."""
    result = dict(base)
    for key, value in changes.items():
        is_section = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if is_section else value
    return result


class Trial:
    """One run on nodes of its own."""

    def __init__(
        self,
        run_name: str,
        store: Path,
        cluster: Cluster,
        nodes: Sequence[str],
        recipe: Mapping[str, Any],
    ) -> None:
        self.run_name = run_name
        self.store = store
        self.cluster = cluster
        self.nodes = tuple(nodes)
        self._storage = open_storage(str(store))
        self._started: list[Popen[str]] = []
        self._submitting: Popen[str] | None = None
        self.recipe = store.with_name(f"{run_name}.yaml")
        place = {
            "run_name": run_name,
            "root_uri": str(store),
            "launch": {"exclude": ",".join(cluster.others(nodes)) or None},
        }
        self.recipe.write_text(yaml.safe_dump(merged(recipe, place)))

    def command(self, *words: str, overrides: Sequence[str] = ()) -> "CompletedProcess[str]":
        """Runs ``sigma-pipeline`` to its end."""
        return subprocess.run(
            self._arguments(*words, overrides=overrides),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def start(self, *words: str, overrides: Sequence[str] = ()) -> "Popen[str]":
        """Starts it, to be stopped from outside."""
        arguments = self._arguments(*words, overrides=overrides)
        self._started.append(Popen(arguments, stdout=DEVNULL, stderr=PIPE, text=True))
        return self._started[-1]

    def _arguments(self, *words: str, overrides: Sequence[str] = ()) -> list[str | Path]:
        program = Path(sys.executable).with_name("sigma-pipeline")
        options = [word for setting in overrides for word in ("--set", setting)]
        return [program, *words, "--config", self.recipe, *options]

    def submit(self, stage: str = "train", overrides: Sequence[str] = ()) -> str:
        """Submits a stage; returns the number of its first job of training once there is one.

        The command itself takes its time to end, which a test may need; ``wait_for_end`` asks how
        it did.
        """
        self.require_submitted()  # of the time before
        before = len(self.submitted("train"))
        command = self._submitting = self.start("run", "--stage", stage, overrides=overrides)
        wait_until(lambda: len(self.submitted("train")) > before or command.poll() is not None)
        if command.poll() is not None:
            self.require_submitted()
        return self.submitted("train")[before]

    def require_submitted(self) -> None:
        """Waits until the command that submits has returned; it must have done well."""
        if self._submitting is not None:
            errors = self._submitting.communicate(timeout=120)[1]
            assert self._submitting.returncode == 0, errors
            self._submitting = None

    def status(self) -> str:
        """What ``sigma-pipeline status`` says."""
        done = self.command("status")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submitted(self, stage: str) -> list[str]:
        """Numbers of all jobs of a stage, as the run's folder has them, oldest first."""
        records = self.records("submitted").values()
        return [record["job_id"] for record in records if record["stage"] == stage]

    def records(self, folder: str) -> dict[str, dict[str, Any]]:
        """JSON files right below a folder of the run, by name."""
        found = sorted((self.store / "runs" / self.run_name / folder).glob("*.json"))
        return {path.stem: json.loads(path.read_text()) for path in found}

    def newest_step(self) -> int:
        """Of the newest commit; -1 before the first."""
        return self.records("train").get("latest", {"step": -1})["step"]

    def wait_for_step(self, step: int) -> None:
        """Until such a step is committed."""
        wait_until(lambda: self.newest_step() >= step)

    def kill_rank(self, job_id: str, rank: int, *, after: int) -> None:
        """Ends a process of a training for good once it has taken and noted so many steps."""
        wait_until(lambda: rank in self.cluster.ranks(job_id, self.nodes))
        wait_until(lambda: len(self.curve()) >= after)
        os.kill(self.cluster.ranks(job_id, self.nodes)[rank], signal.SIGKILL)

    def claim_nodes(self, partition: str) -> None:
        """Submits a short job that needs the nodes of this run for itself alone."""
        self.cluster.ask(
            "sbatch",
            f"--job-name={self.run_name}-other",
            f"--partition={partition}",
            f"--nodelist={','.join(self.nodes)}",
            f"--nodes={len(self.nodes)}",
            "--exclusive",
            "--output=/dev/null",
            "--wrap=sleep 1",
        )

    def wait_for_end(self) -> None:
        """Until SLURM has no job of this run left."""
        self.require_submitted()
        wait_until(lambda: not self.cluster.job_ids(self.run_name))

    def curve(self) -> Curve:
        """Loss and gradient norm by step; of a step taken again, both must have been the same."""
        found: Curve = {}
        for entry in read_entries(self._storage, self.run_name)[0]:
            values = entry.fields["values"] if entry.kind == "metrics" else {}
            if "train/loss" in values:
                step = entry.fields["step"]
                numbers = (values["train/loss"], values["train/gradient_norm"])
                assert found.setdefault(step, numbers) == numbers, f"step {step}, taken again"
        return dict(sorted(found.items()))

    def tracked(self, query: str) -> list[tuple[object, ...]]:
        """Rows of MLflow's database, once ``sync`` has brought it up to date."""
        done = self.command("sync")
        assert done.returncode == 0, done.stderr
        database = self.store / "mlflow" / "mlflow.db"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()

    def logs(self) -> str:
        """All that jobs of this run have written, and what status says, for a test that failed."""
        paths = sorted((self.store / "work").rglob(f"*{self.run_name}*/**/*.err"))
        texts = [f"--- {path}\n{path.read_text(errors='replace')[-6000:]}" for path in paths]
        return "\n".join([self.command("status").stdout, *texts])

    def end(self) -> None:
        """Ends all commands and jobs of this run, and waits for that."""
        for command in (command for command in self._started if command.poll() is None):
            command.terminate()
            command.communicate()
        while job_ids := self.cluster.job_ids(self.run_name):
            self.cluster.ask("scancel", "--signal=KILL", *job_ids)
            self.cluster.ask("scancel", *job_ids)
            time.sleep(0.5)
