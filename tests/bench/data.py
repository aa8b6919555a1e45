"""All figures of the data path, as a table and as JSON: ``make bench-data``.

    python -m tests.bench.data [--data FOLDER] [--json FILE] [PART ...]

Parts are ``shards`` and ``clips``; both when none is named. Takes some minutes on one core.
"""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import clips, shards
from tests.bench.options import REPOSITORY, parsed, videos_parser
from tests.bench.rows import Row

PARTS = ("shards", "clips")


def main(arguments: Sequence[str]) -> None:
    """Measures, prints and writes."""
    options = _options(arguments)
    measures: dict[str, Callable[[Path, Path], list[Row]]] = {
        "shards": shards.measure,
        "clips": clips.measure,
    }
    results: dict[str, list[Row]] = {}
    for part in options.parts:
        with TemporaryDirectory() as folder:
            results[part] = measures[part](Path(folder), options.data)
        sys.stdout.write(_table(part, results[part]))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(_plain(results), indent=1) + "\n")
    sys.stdout.write(f"\nwritten to {options.json}\n")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = videos_parser(__doc__)
    parser.add_argument("--json", type=Path, default=REPOSITORY / "build" / "bench-data.json")
    return parsed(parser, arguments, PARTS)


def _table(part: str, rows: Sequence[Row]) -> str:
    lines = [f"\n{part}"]
    for row in rows:
        verdict = ""
        if row.goal is not None:
            verdict = f"goal {row.goal:g}: {'met' if row.value >= row.goal else 'NOT MET'}"
        lines.append(f"  {row.what:<78} {row.value:>9.2f} {row.unit:<9} {verdict}".rstrip())
    return "\n".join(lines) + "\n"


def _plain(results: dict[str, list[Row]]) -> dict[str, object]:
    parts = {part: [row._asdict() for row in rows] for part, rows in results.items()}
    return {"processor": _processor(), "python": platform.python_version(), **parts}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


if __name__ == "__main__":
    main(sys.argv[1:])
