"""Every benchmark of a frozen encoder on real videos, untrained beside trained: ``make frozen``.

Pre-trains two small encoders without labels, and scores the first commit and the last of each:
``frozen_actions.yaml`` with k-NN and both linear probes on real actions, ``frozen_davis.yaml`` with
both kinds of video object segmentation on DAVIS sequences. The probes are scored on performers that
they did not learn from. Pre-training has seen all that is scored, without labels and masks.

    python -m tests.bench.frozen [--data FOLDER] [--store FOLDER] [--set K=V ...]
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sigma_pipeline.pipeline.config import load_config
from tests.bench.options import REPOSITORY, parsed, videos_parser, with_settings

RECIPES = ("frozen_actions", "frozen_davis")
SEQUENCES = ("blackswan", "car-shadow", "dog-agility")
NUM_SCORED = 2
"""Performers, the last ones by name, whose clips are scored."""


def main(arguments: Sequence[str]) -> int:
    """Writes the lists, and runs the recipes; the exit status of the first that fails, or 0."""
    options = _options(arguments)
    lists = options.store / "lists"
    lists.mkdir(parents=True, exist_ok=True)
    write_lists(options.data, lists)
    program = str(Path(sys.executable).with_name("sigma-pipeline"))
    for name in RECIPES:
        recipe = Path(__file__).with_name(f"{name}.yaml")
        settings = [f"root_uri={options.store}", *_folders(recipe, options.data, lists)]
        words = [word for one in (*settings, *options.set) for word in ("--set", one)]
        command = [program, "run", "--config", str(recipe), *words]
        if status := subprocess.run(command, check=False).returncode:
            return status
    return 0


def _folders(recipe: Path, data: Path, lists: Path) -> Iterator[str]:
    """Settings that say where the recipe's videos and lists are."""
    for name, dataset in load_config(str(recipe)).datasets.items():
        yield f"datasets.{name}.source={data / 'vos/DAVIS' if name == 'davis' else data}"
        if dataset.annotations is not None:
            yield f"datasets.{name}.annotations={lists}"


def write_lists(data: Path, folder: Path) -> None:
    """``train.csv`` and ``val.csv`` of other performers each, and ``davis.txt``."""
    with (data / "SOURCES.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if "/weizmann64/" in row["path"]]
    scored = sorted({row["group"] for row in rows})[-NUM_SCORED:]
    columns = ("path", "label", "group")
    for name, is_scored in (("train", False), ("val", True)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            chosen = (row for row in rows if (row["group"] in scored) == is_scored)
            writer.writerows([row[column] for column in columns] for row in chosen)
    (folder / "davis.txt").write_text("".join(f"{name}\n" for name in SEQUENCES))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = with_settings(videos_parser(__doc__))
    parser.add_argument("--store", type=Path, default=REPOSITORY / "build" / "frozen")
    return parsed(parser, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
