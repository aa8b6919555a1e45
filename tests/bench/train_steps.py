"""Steps of a training by the clock, and what commits cost them.

The clock of a step is its line in the journal, so a step is all between two lines: reading clips,
forward, backward, update, and whatever it waits for. A commit is under way from the line of its
step until its commit.json is there; steps in between are disturbed, all others quiet.
"""

import os
import shutil
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import Storage, open_storage, read_json
from sigma_pipeline.pipeline.config import PipelineConfig
from tests.bench.seconds import seconds_of
from tests.bench.train_rank import Ranks, num_samples

WARM_UP_STEPS = 3
_SETTLE_S = 1.0
"""For what a file that was written left to the disk."""
_WAIT = "commit_wait_s"
"""What the time ledger calls it when training waits for commits."""


@dataclass(frozen=True)
class Trained:
    """What a training left behind, as far as time goes."""

    clips_per_step: int
    ended_s: Mapping[int, float]
    """When each step was over."""
    committed_s: Mapping[int, float]
    """When the commit of a step was there; step 0 has one too."""
    waited_s: Mapping[int, float]
    """By the ledger in each commit: all waiting for commits before this one."""
    data_fractions: Sequence[float]
    """Share of each step's time in which it waited for clips, by step."""

    @cached_property
    def quiet_s(self) -> list[float]:
        """Of steps without a commit under way, warm ones."""
        return [took_s for step, took_s in self._took_s.items() if step not in self._disturbed]

    @property
    def clips_per_s(self) -> float:
        """In the median of quiet steps."""
        return self.clips_per_step / statistics.median(self.quiet_s)

    @property
    def data_fraction(self) -> float:
        """Share of the time of warm steps that went into clips."""
        return statistics.fmean(self.data_fractions[WARM_UP_STEPS:])

    @property
    def wait_s(self) -> float:
        """For one commit; the first, of step 0, and the last, which the end waits for, left out."""
        first, *others = [step for step in sorted(self.waited_s) if step > 0]
        return (self.waited_s[others[-1]] - self.waited_s[first]) / len(others)

    @property
    def under_way_s(self) -> float:
        """From the decision to commit until the commit is there."""
        return statistics.median(
            self.committed_s[step] - self.ended_s[step] for step in self._middle_commits
        )

    @property
    def lost_s(self) -> float:
        """What one commit takes from training in all, waiting included."""
        quiet_s = statistics.median(self.quiet_s)
        disturbed_s = [took_s for step, took_s in self._took_s.items() if step in self._disturbed]
        return sum(took_s - quiet_s for took_s in disturbed_s) / len(self._middle_commits)

    @property
    def slowdown(self) -> float:
        """How much longer a disturbed step takes than a quiet one; 0: no longer."""
        disturbed_s = [took_s for step, took_s in self._took_s.items() if step in self._disturbed]
        return statistics.fmean(disturbed_s) / statistics.median(self.quiet_s) - 1

    @property
    def _middle_commits(self) -> list[int]:
        return [step for step in sorted(self.committed_s) if 0 < step < max(self.ended_s)]

    @cached_property
    def _took_s(self) -> dict[int, float]:
        return {
            step: ended_s - self.ended_s[step - 1]
            for step, ended_s in self.ended_s.items()
            if step > WARM_UP_STEPS
        }

    @cached_property
    def _disturbed(self) -> set[int]:
        """Steps that began before a commit was there and ended after it was begun."""
        return {
            step
            for step in self._took_s
            for commit in self._middle_commits
            if self.ended_s[commit] < self.ended_s[step]
            and self.ended_s[step - 1] < self.committed_s[commit]
        }


def train_at_once(
    config: PipelineConfig, world_sizes: Iterable[int], steps: int, commit_every: int
) -> list[Trained]:
    """Trainings side by side, each of its number of processes with as many clips per process.

    Args:
        config: of all of them.
        world_sizes: of each.
        steps: that each takes at least.
        commit_every: so many steps.
    """
    runs = [
        _sized(config, f"bench-{number}", world_size, steps, commit_every)
        for number, world_size in enumerate(world_sizes)
    ]
    started = [Ranks(run, world_size) for run, world_size in zip(runs, world_sizes, strict=True)]
    for ranks in started:
        ranks.wait()
    trained = [read_trained(open_storage(run.root_uri), run) for run in runs]
    for run in runs:
        shutil.rmtree(Path(run.root_uri) / "runs" / run.run_name)
        shutil.rmtree(run.work_path / run.run_name)
    return trained


def _sized(
    config: PipelineConfig, run_name: str, world_size: int, steps: int, commit_every: int
) -> PipelineConfig:
    clips = config.train.micro_batch_clips * world_size
    epochs = -(-steps // (num_samples(config) // clips))
    sizes = {"epochs": epochs, "global_batch_clips": clips, "commit_every_steps": commit_every}
    train = config.train.model_copy(update=sizes)
    return config.model_copy(update={"run_name": run_name, "train": train})


def read_trained(storage: Storage, config: PipelineConfig) -> Trained:
    """Of a run in a local store."""
    entries, _ = read_entries(storage, config.run_name)
    lines = [entry for entry in entries if entry.kind == "metrics"]
    commits = {
        int(key.split("/")[-3].removeprefix("step-")): key
        for key in storage.list(f"runs/{config.run_name}/train")
        if key.endswith("/commit.json")
    }
    return Trained(
        clips_per_step=config.train.global_batch_clips,
        ended_s={line.fields["step"]: line.time_ms / 1000 for line in lines},
        committed_s={
            step: Path(config.root_uri, key).stat().st_mtime for step, key in commits.items()
        },
        waited_s={
            step: read_json(storage, key)["ledger"].get(_WAIT, 0.0) for step, key in commits.items()
        },
        data_fractions=[line.fields["values"]["train/data_wait_fraction"] for line in lines],
    )


def plain_save_s(folder: Path, num_parameters: int, *, is_synced: bool, tries: int = 3) -> float:
    """Seconds of ``torch.save`` of weights and both moments; on to the disk if ``is_synced``."""
    state = {name: torch.randn(num_parameters) for name in ("weights", "exp_avg", "exp_avg_sq")}
    path = folder / "plain.pt"

    def save() -> None:
        with path.open("wb") as file:
            torch.save(state, file)
            if is_synced:
                file.flush()
                os.fsync(file.fileno())

    taken_s = []
    for _ in range(tries):
        taken_s.append(seconds_of(save))
        path.unlink()
        time.sleep(_SETTLE_S)
    return statistics.median(taken_s)
