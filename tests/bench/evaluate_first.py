"""From a commit of a training that goes on to its first score.

Both are there when their JSON file is; a file's time of change tells when.
"""

import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sigma_pipeline.jobs.commits import train_folder
from sigma_pipeline.jobs.evaluate_request import evaluate_folder
from tests.bench.command import run_logged
from tests.bench.figure import Figure
from tests.bench.until import until

GOAL_S = 5.0
RECIPE = "learn_actions"
"""A small encoder that is trained on real videos, 40 of which are scored."""
_COMMITS = 6
_PATIENCE_S = 900
_STEPS_BETWEEN = 100
_STEPS_PER_EPOCH = 4
_DATASETS = ("weizmann", "gt_mhi", "others")
_CELL = (
    "{benchmark: knn, dataset: weizmann, train_split: all, test_split: all, "
    "settings: {k: 8, leave_one_group_out: true}}"
)


@dataclass(frozen=True)
class Waited:
    """Seconds from each commit to its first score."""

    by_step: Mapping[int, float]

    def figures(self, where: str, goal_s: float | None) -> Iterator[Figure]:
        """The first commit apart: what every evaluation needs is made for it."""
        first, *others = (self.by_step[step] for step in sorted(self.by_step))
        what = f"first score after a commit, {where}"
        yield Figure(f"{what}: the first commit", first, "s", goal_s)
        yield Figure(f"{what}: later ones, median", statistics.median(others), "s", goal_s)
        yield Figure(f"{what}: later ones, slowest", max(others), "s")


def first_score_here(
    program: str, data: Path, folder: Path, settings: Sequence[str]
) -> Iterator[Figure]:
    """With training and evaluation on this machine, by one command."""
    settings = [*_settings(data, folder, "here"), *settings]
    run_logged(_command(program, "all", settings), folder / "here.txt")
    yield from read_waited(folder / "store", "here").figures("here", GOAL_S)


def first_score_on_slurm(
    program: str, data: Path, folder: Path, settings: Sequence[str]
) -> Iterator[Figure]:
    """With a job of SLURM for each commit, which training submits.

    No other jobs may be there.
    """
    settings = [*_settings(data, folder, "slurm"), "launch.cluster=slurm", *settings]
    run_logged(_command(program, "all", settings), folder / "slurm.txt")
    until(_is_idle, "the end of all jobs", _PATIENCE_S)
    yield from read_waited(folder / "store", "slurm").figures("SLURM", None)


def read_waited(store: Path, run_name: str) -> Waited:
    """Of a run in a local store."""
    committed_s = _times_s(store / train_folder(run_name), "step-*/*/commit.json")
    scored_s = _times_s(store / evaluate_folder(run_name), "step-*/*/*/*.json")
    return Waited({step: scored_s[step] - at_s for step, at_s in committed_s.items()})


def _times_s(folder: Path, pattern: str) -> dict[int, float]:
    """When the first file of each step was there."""
    times: dict[int, float] = {}
    for path in folder.glob(pattern):
        step = int(path.relative_to(folder).parts[0].removeprefix("step-"))
        times[step] = min(times.get(step, float("inf")), path.stat().st_mtime)
    return times


def _is_idle() -> bool:
    """Whether no job of this user waits or runs."""
    return not subprocess.check_output(["squeue", "--noheader", "--me"]).strip()


def _settings(data: Path, folder: Path, run_name: str) -> list[str]:
    return [
        f"run_name={run_name}",
        f"root_uri={folder / 'store'}",
        f"scratch_dir={folder / run_name}",
        *(f"datasets.{name}.source={data}" for name in _DATASETS),
        f"train.epochs={(_COMMITS - 1) * _STEPS_BETWEEN // _STEPS_PER_EPOCH}",
        f"train.commit_every_steps={_STEPS_BETWEEN}",
        "train.keep_last=1000",
        f"evaluate.cells=[{_CELL}]",
    ]


def _command(program: str, stage: str, settings: Sequence[str]) -> list[str]:
    options = [word for setting in settings for word in ("--set", setting)]
    return [program, "run", "--stage", stage, "--config", RECIPE, *options]
