"""Every column of SEVERE on stand-ins of real clips, untrained beside trained: ``make severe``.

Pre-trains a small encoder without labels, fine-tunes its first commit and its last on a stand-in
for each column, and prints the table. The datasets of SEVERE cannot be had here; what stands for
them has so few clips that a score says whether a column works and whether anything was learned, no
more. Performers are tested whom nobody was fine-tuned on, where clips say who performs (weizmann64,
gt_mhi, and what is joined of weizmann64), and pre-training sees no test clip either.

    python -m tests.bench.severe [--data FOLDER] [--store FOLDER] [--set K=V ...]
"""

import argparse
import csv
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from tests.bench.options import REPOSITORY, parsed, videos_parser, with_settings
from tests.jobs.evaluation.ava_stand_in import write_ava
from tests.jobs.evaluation.charades_stand_in import write_charades

RECIPE = Path(__file__).with_name("severe_stand_ins.yaml")
TEST_GROUPS: Mapping[str, int] = {"weizmann64": 2, "gt_mhi": 1}
"""Performers, the last ones by name, whose clips are tested."""
TEST_EVERY: Mapping[str, int] = {"arid": 2, "surv_fight": 3}
"""Where nothing tells what clips have in common: each n-th of a class is tested."""
TEST_QUVA = 2
"""Videos, the last ones by name."""
WEIZMANN_TRAIN = 6
"""Clips of a class that training videos are joined of: those of the first three performers."""
AVA_ACTIONS: Mapping[str, int] = {"bend": 1, "jack": 5, "wave1": 12, "wave2": 69}
"""Numbers of AVA that stand for what is done."""
Row = Mapping[str, str]


def main(arguments: Sequence[str]) -> int:
    """Makes the stand-ins, and runs the recipe; its exit status."""
    options = _options(arguments)
    made = options.store / "stand-ins"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    settings = [f"root_uri={options.store}", *_made(options.data, made), *options.set]
    program = str(Path(sys.executable).with_name("sigma-pipeline"))
    words = [word for one in settings for word in ("--set", one)]
    command = [program, "run", "--config", str(RECIPE), *words]
    return subprocess.run(command, check=False).returncode


def _made(data: Path, folder: Path) -> Iterator[str]:
    """Writes all stand-ins; settings that say where they are."""
    with (data / "SOURCES.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in (*TEST_GROUPS, *TEST_EVERY):
        write_lists(rows, name, folder / name)
        yield f"datasets.{name}.annotations={folder / name}"
    for name in (*TEST_GROUPS, *TEST_EVERY, "others"):
        yield f"datasets.{name}.source={data}"
    write_quva(data / "actions/quva_repetition/annotations", folder / "quva")
    yield f"datasets.quva.source={data / 'actions/quva_repetition/videos'}"
    yield f"datasets.quva.annotations={folder / 'quva'}"
    clips = {name: sorted((data / "actions/weizmann64" / name).iterdir()) for name in AVA_ACTIONS}
    write_charades(folder / "charades", clips, WEIZMANN_TRAIN)
    numbered = {AVA_ACTIONS[name]: paths for name, paths in clips.items()}
    write_ava(folder / "ava", numbered, train_clips=WEIZMANN_TRAIN)
    for name in ("charades", "ava"):
        yield f"datasets.{name}.source={folder / name}"


def write_lists(rows: Sequence[Row], name: str, folder: Path) -> None:
    """``train.csv`` and ``val.csv`` of the clips of one folder of actions.

    Args:
        rows: of ``SOURCES.csv``.
        name: of the folder.
        folder: is made.
    """
    clips = sorted((row for row in rows if f"/{name}/" in row["path"]), key=itemgetter("path"))
    tested = _of_last_groups(clips, name) if name in TEST_GROUPS else _each_nth(clips, name)
    folder.mkdir()
    columns = ("path", "label", "group")
    for split, is_tested in (("train", False), ("val", True)):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            chosen = (row for row in clips if (row["path"] in tested) == is_tested)
            writer.writerows([row[column] for column in columns] for row in chosen)


def write_quva(annotations: Path, folder: Path) -> None:
    """Copies the marks of each video into the folder of its split."""
    marks = sorted(annotations.glob("*.npy"))
    for split, paths in (("train", marks[:-TEST_QUVA]), ("val", marks[-TEST_QUVA:])):
        (folder / split).mkdir(parents=True)
        for path in paths:
            shutil.copy(path, folder / split)


def _of_last_groups(clips: Sequence[Row], name: str) -> set[str]:
    groups = sorted({row["group"] for row in clips})[-TEST_GROUPS[name] :]
    return {row["path"] for row in clips if row["group"] in groups}


def _each_nth(clips: Sequence[Row], name: str) -> set[str]:
    nth = TEST_EVERY[name]
    by_class = groupby(clips, itemgetter("label"))
    return {row["path"] for _, each in by_class for row in list(each)[nth - 1 :: nth]}


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = with_settings(videos_parser(__doc__))
    parser.add_argument("--store", type=Path, default=REPOSITORY / "build" / "severe")
    return parsed(parser, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
