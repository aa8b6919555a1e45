"""Does training teach anything about real actions? SIGMA, pixels and no training: ``make learn``.

Runs the recipe ``learn_actions`` with both objectives and several seeds. Each objective has a core
and a store of its own, where its runs follow each other; one that is finished is not made again.
The table has a row for each benchmark and encoder: the score of each seed, their mean and range,
and the mean over the seeds of the exact 95% interval, which speaks of clips and not of seeds. Below
stands what two features reach that nobody has to learn.

    python -m tests.bench.learn [--data FOLDER] [--store FOLDER] [--seeds 0 1 2] [--set K=V ...]
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.scores import TableRow, score_table
from sigma_pipeline.pipeline.config import load_config
from sigma_pipeline.pipeline.table import aligned
from tests.bench.easy_features import EASY, easy_scores
from tests.bench.options import REPOSITORY, parsed, videos_parser, with_settings

RECIPE = "learn_actions"
OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    "sigma": (),
    "pixels": ("model.objective=l2", "model.target={kind: pixels}"),
}
CHANCE = {"weizmann": 1 / 4, "gt_mhi": 1 / 3}
"""Both sets have equally many clips of each class."""
HEADER = ("benchmark", "dataset", "encoder", "seeds", "mean", "range", "95% interval", "chance")


class Benchmark(NamedTuple):
    """A column of a run's table of scores."""

    name: str
    dataset: str


def main(arguments: Sequence[str]) -> None:
    """Trains, evaluates, and writes the table."""
    options = _options(arguments)
    started = time.monotonic()
    with ThreadPoolExecutor(len(OBJECTIVES)) as lanes:
        tables = dict(zip(OBJECTIVES, lanes.map(partial(_lane, options), OBJECTIVES), strict=True))
    lines = aligned([HEADER, *table_rows(tables, _easy(options))], left=(0, 1, 2))
    minutes = (time.monotonic() - started) / 60
    took = f"{minutes:.1f} minutes; runs that were finished before were not made again"
    sys.stdout.write("\n".join([*lines, took]) + "\n")


def table_rows(
    tables: Mapping[str, Sequence[Sequence[TableRow]]],
    easy: Mapping[str, Mapping[tuple[str, str], Score]],
) -> Iterator[tuple[str, ...]]:
    """Cells of the table, below ``HEADER``.

    Args:
        tables: of each objective, the scores of its runs by seed. The untrained encoders are those
            of all of them: each objective draws other weights with the same seed.
        easy: scores of features that nobody has to learn, by their name.

    Raises:
        ValueError: a score is missing.
    """
    everyone = [rows for runs in tables.values() for rows in runs]
    encoders = {"untrained": [_by_benchmark(rows[0]) for rows in everyone]}
    encoders |= {name: [_by_benchmark(rows[-1]) for rows in runs] for name, runs in tables.items()}
    for benchmark in encoders["untrained"][0]:
        rows = {name: [run[benchmark] for run in runs] for name, runs in encoders.items()}
        rows |= {name: [scores[benchmark]] for name, scores in easy.items()}
        for name, scores in rows.items():
            yield (*benchmark, name, *_summary(scores), f"{CHANCE[benchmark.dataset]:.3f}")


def _easy(options: argparse.Namespace) -> dict[str, dict[tuple[str, str], Score]]:
    """Of the clips that the first run was scored on."""
    objective = next(iter(OBJECTIVES))
    storage, model = open_storage(str(options.store / objective)), load_config(RECIPE).model
    shape = (model.num_frames, model.frame_size_px)
    run = f"{objective}_{options.seeds[0]}"
    return {name: easy_scores(storage, run, of, shape) for name, of in EASY.items()}


def _summary(scores: Sequence[Score]) -> tuple[str, ...]:
    values = [score.value for score in scores]
    low, high = fmean(score.low for score in scores), fmean(score.high for score in scores)
    return (
        " ".join(f"{value:.3f}" for value in values),
        f"{fmean(values):.3f}",
        f"{min(values):.3f}-{max(values):.3f}",
        f"[{low:.3f}, {high:.3f}]",
    )


def _by_benchmark(row: TableRow) -> dict[Benchmark, Score]:
    """Top-1 of each benchmark on one encoder."""
    unfinished = [f"{cell.label} on {cell.dataset}" for cell in row.cells if cell.state != "done"]
    if unfinished:
        raise ValueError(f"{row.encoder} has no score for {', '.join(unfinished)}")
    return {Benchmark(cell.label, cell.dataset): cell.scores[0] for cell in row.cells}


def _lane(options: argparse.Namespace, objective: str) -> list[list[TableRow]]:
    """The scores of one objective's runs, by seed."""
    store = options.store / objective
    store.mkdir(parents=True, exist_ok=True)
    settings = [*_sources(options.data), f"root_uri={store}", *OBJECTIVES[objective], *options.set]
    for seed in options.seeds:
        run = f"{objective}_{seed}"
        took_s = _run([*settings, f"run_name={run}", f"seed={seed}"], store / f"{run}.log")
        sys.stderr.write(f"{run}: {took_s:.0f} s\n")
    storage = open_storage(str(store))
    return [score_table(storage, f"{objective}_{seed}") for seed in options.seeds]


def _run(settings: Sequence[str], log: Path) -> float:
    """One run from shards to scores; the seconds it took.

    Raises:
        SystemExit: it failed; says where its log is.
    """
    program = str(Path(sys.executable).with_name("sigma-pipeline"))
    options = [word for setting in settings for word in ("--set", setting)]
    started = time.monotonic()
    with log.open("w") as file:
        command = [program, "run", "--config", RECIPE, *options]
        status = subprocess.run(command, stdout=file, stderr=file, check=False).returncode
    if status:
        raise SystemExit(f"a run ended with status {status}; see {log}")
    return time.monotonic() - started


def _sources(data: Path) -> list[str]:
    return [f"datasets.{name}.source={data}" for name in load_config(RECIPE).datasets]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = with_settings(videos_parser(__doc__))
    parser.add_argument("--store", type=Path, default=REPOSITORY / "build" / "learn")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    return parsed(parser, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
