"""What training costs beside its steps: commits, restarts, a second process. ``make bench-train``.

* commits: how long a step waits for one, against ``torch.save`` of weights and both moments to the
  same disk; and what it takes from the steps that run while it is written.
* restart: from SIGKILL of a rank to the first step of the next attempt, on this machine; and on
  SLURM where SLURM_CONF leads to the test cluster (``infra/slurm/up.sh``).
* scaling: twice the clips on two processes as on one, one thread each, real videos decoded within.
  Beside it two trainings of one process at the same time: what the machine gives at most.

ViT-S as published, two clips per process. The machine should have nothing else to do; the load at
the start is printed. Takes about seven minutes on two cores.

    python -m tests.bench.train [--data FOLDER] [--steps 30] [--repeats 2] [--set K=V] [PART ...]
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sigma_pipeline.pipeline.config import PipelineConfig, load_config
from sigma_pipeline.pipeline.services import open_services
from sigma_pipeline.pipeline.sharding import run_shard_stage
from sigma_pipeline.pipeline.training_plan import parameter_count
from tests.bench.figure import Figure, write_table
from tests.bench.options import REPOSITORY, parsed, videos_parser, with_settings
from tests.bench.train_restart import restart_here, restart_on_slurm
from tests.bench.train_steps import Trained, plain_save_s, train_at_once

RECIPE = Path(__file__).with_name("train.yaml")
PARTS = ("scaling", "commits", "restart")
GOAL_WAIT_PERCENT = 5.0
_COMMITS = 3  # in the course of a training
_BYTES_OF_STATE = 3 * 4  # weight and two moments


def scaling(
    alone: Sequence[Trained], pairs: Sequence[Trained], both: Sequence[Trained]
) -> Iterator[Figure]:
    """One process, two that train together, and two that do not know each other."""
    rates = {
        name: statistics.median(one.clips_per_s for one in runs)
        for name, runs in (("one", alone), ("two", pairs))
    }
    apart = sum(one.clips_per_s for one in both)
    for name, runs in (("one process", alone), ("two processes", pairs)):
        share = 100 * statistics.median(one.data_fraction for one in runs)
        rate = statistics.median(one.clips_per_s for one in runs)
        yield Figure(f"{name}: rate", rate, "clips/s")
        yield Figure(f"{name}: of its time, reading clips", share, "%")
    yield Figure("two trainings of one process at the same time: both rates", apart, "clips/s")
    yield Figure("efficiency, of twice one process", 50 * rates["two"] / rates["one"], "%")
    yield Figure("efficiency, of two that do not know each other", 100 * rates["two"] / apart, "%")


def commits(name: str, runs: Sequence[Trained], plain_s: float) -> Iterator[Figure]:
    """What one commit costs a training, beside saving the same by ``torch.save``."""
    wait_s, lost_s, under_way_s, slowdown = (
        statistics.median(getattr(run, what) for run in runs)
        for what in ("wait_s", "lost_s", "under_way_s", "slowdown")
    )
    share = 100 * wait_s / plain_s
    yield Figure(f"{name}: a step waits for a commit", wait_s, "s")
    yield Figure(f"{name}: that wait, of torch.save", share, "%", GOAL_WAIT_PERCENT)
    yield Figure(f"{name}: until the commit is there", under_way_s, "s")
    yield Figure(f"{name}: steps meanwhile are longer by", 100 * slowdown, "%")
    yield Figure(f"{name}: lost to a commit in all, waiting included", lost_s, "s")
    yield Figure(f"{name}: that loss, of torch.save", 100 * lost_s / plain_s, "%")


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Figure]:
    """All figures that are asked for."""
    config = load_config(str(RECIPE), [*_settings(options, folder), *options.set])
    run_shard_stage(config, open_services(config, lambda _: None), force=False)
    if set(options.parts) & {"scaling", "commits"}:
        yield from _steps(config, options, folder)
    if "restart" in options.parts:
        yield from _phases("here", restart_here, options, folder)
        if "SLURM_CONF" in os.environ:
            yield from _phases("SLURM", restart_on_slurm, options, folder)


def _steps(config: PipelineConfig, options: argparse.Namespace, folder: Path) -> Iterator[Figure]:
    every = options.steps // _COMMITS
    alone: list[Trained] = []
    pairs: list[Trained] = []
    for _ in range(options.repeats):
        alone += train_at_once(config, [1], options.steps, every)
        pairs += train_at_once(config, [2], options.steps, every)
    if "scaling" in options.parts:
        yield from scaling(alone, pairs, train_at_once(config, [1, 1], options.steps, every))
    if "commits" in options.parts:
        count = parameter_count(config.model)
        yield Figure("weights and moments", count * _BYTES_OF_STATE / 1e6, "MB")
        plain_s = plain_save_s(folder, count, is_synced=False)
        yield Figure("torch.save of them", plain_s, "s")
        synced_s = plain_save_s(folder, count, is_synced=True)
        yield Figure("the same, on the disk for certain (fsync), as commits are", synced_s, "s")
        yield from commits("one process", alone, plain_s)
        yield from commits("two processes", pairs, plain_s)


def _phases(
    where: str,
    restart: Callable[[Sequence[str], Path], dict[str, float]],
    options: argparse.Namespace,
    folder: Path,
) -> Iterator[Figure]:
    settings = [*_settings(options, folder), *options.set]
    phases = restart(settings, folder)
    for phase, seconds in phases.items():
        yield Figure(f"restart, {where}: {phase}", seconds, "s")
    yield Figure(f"restart, {where}: in all", sum(phases.values()), "s")


def _settings(options: argparse.Namespace, folder: Path) -> list[str]:
    return [f"root_uri={folder / 'store'}", f"datasets.actions.source={options.data}"]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = with_settings(videos_parser(__doc__))
    parser.add_argument("--steps", type=int, default=30, help="of each training")
    parser.add_argument("--repeats", type=int, default=2, help="of each training")
    return parsed(parser, arguments, PARTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and says where a goal is missed."""
    options = _options(arguments)
    build = REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    # Below build/: its disk is the one that a store on this machine has.
    with tempfile.TemporaryDirectory(dir=build, prefix="bench-train-") as folder:
        return int(not write_table(measure(options, Path(folder))))


if __name__ == "__main__":
    sys.exit(main())
