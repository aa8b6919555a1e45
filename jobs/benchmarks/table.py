"""The benchmarks there are, and building one from a recipe's settings.

Each module of this folder with a ``BENCHMARK`` is one: to add a benchmark, add its file.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.jobs import benchmarks
from sigma_pipeline.jobs.benchmarks.benchmark import Benchmark


@cache
def all_benchmarks() -> Mapping[str, type[Benchmark]]:
    """By name, in alphabetical order."""
    return {found.name: found for found in sorted(_found(), key=lambda found: found.name)}


def build_benchmark(name: str, settings: Mapping[str, Any]) -> Benchmark:
    """The benchmark ``name`` with ``settings`` over its defaults.

    Raises:
        ConfigError: there is no such benchmark; names those there are.
        pydantic.ValidationError: a setting is unknown or out of range.
    """
    known = all_benchmarks()
    if name not in known:
        raise ConfigError(
            f"there is no benchmark {name!r}, only {', '.join(known)}; see: "
            "sigma-pipeline benchmarks"
        )
    return known[name](**settings)


def _found() -> Iterator[type[Benchmark]]:
    for module in pkgutil.iter_modules(benchmarks.__path__, f"{benchmarks.__name__}."):
        found = getattr(importlib.import_module(module.name), "BENCHMARK", None)
        if found is not None:
            yield found
