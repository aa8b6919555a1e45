"""What benchmarks on real videos are told on the command line: where these are, and which parts."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def videos_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows ``--data``.

    Args:
        description: a module's docstring, whose first line is shown.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0] if description else "")
    data = os.environ.get("SIGMA_TEST_DATA", REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=data, help="folder of real videos")
    return parser


def with_settings(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """``parser`` that also takes settings for the recipe."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser


def parsed(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, parts: Sequence[str] = ()
) -> argparse.Namespace:
    """The options; all ``parts`` where none is named."""
    if parts:
        parser.add_argument("parts", nargs="*", metavar="PART", help="; ".join(parts))
    options = parser.parse_args(arguments)
    if not (options.data / "SOURCES.csv").is_file():
        parser.error(f"no SOURCES.csv in {options.data}; name the folder of videos with --data")
    if parts:
        if unknown := set(options.parts) - set(parts):
            parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
        options.parts = options.parts or list(parts)
    return options
