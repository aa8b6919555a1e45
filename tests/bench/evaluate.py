"""What evaluation costs, and how soon it is there. ``make bench-evaluate``.

* sharing: k-NN, linear probe and unsupervised segmentation of one commit in one run, which runs the
  encoder once, against three runs of one each with nothing in common. ViT-S as published on real
  videos, one processor; each run is a command of its own, from its start to its end.
* first: from a commit of a training that goes on to its first score, of a small encoder; on this
  machine, and on SLURM where SLURM_CONF leads to the test cluster (``infra/slurm/up.sh``).

The machine should have nothing else to do; the load at the start is printed. Takes about ten
minutes on two cores.

    python -m tests.bench.evaluate [--data FOLDER] [--clips 40] [--set K=V] [PART ...]
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.evaluate_first import first_score_here, first_score_on_slurm
from tests.bench.evaluate_sharing import measure_sharing
from tests.bench.figure import Figure, write_table
from tests.bench.options import REPOSITORY, parsed, videos_parser, with_settings

PARTS = ("sharing", "first")


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Figure]:
    """All figures that are asked for."""
    program = str(Path(sys.executable).with_name("sigma-pipeline"))
    if "sharing" in options.parts:
        yield from measure_sharing(program, options.data, folder, options.clips, options.set)
    if "first" in options.parts:
        yield from first_score_here(program, options.data, folder, options.set)
        if "SLURM_CONF" in os.environ:
            yield from first_score_on_slurm(program, options.data, folder, options.set)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = with_settings(videos_parser(__doc__))
    parser.add_argument("--clips", type=int, default=40, help="videos that are scored")
    return parsed(parser, arguments, PARTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and says where a goal is missed."""
    options = _options(arguments)
    build = REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    # Below build/: its disk is the one that a store on this machine has.
    with tempfile.TemporaryDirectory(dir=build, prefix="bench-evaluate-") as folder:
        return int(not write_table(measure(options, Path(folder))))


if __name__ == "__main__":
    sys.exit(main())
