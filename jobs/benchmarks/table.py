"""The benchmarks there are, and building one from a recipe's settings."""

from collections.abc import Mapping
from typing import Any

from sigma_pipeline.jobs.benchmarks.benchmark import Benchmark
from sigma_pipeline.jobs.benchmarks.knn import Knn
from sigma_pipeline.jobs.benchmarks.linear import LinearProbe
from sigma_pipeline.jobs.benchmarks.uvos import UnsupervisedVos

BENCHMARKS: Mapping[str, type[Benchmark]] = {
    benchmark.name: benchmark for benchmark in (Knn, LinearProbe, UnsupervisedVos)
}


def build_benchmark(name: str, settings: Mapping[str, Any]) -> Benchmark:
    """The benchmark ``name`` with ``settings`` over its defaults.

    Raises:
        pydantic.ValidationError: a setting is unknown or out of range.
    """
    return BENCHMARKS[name](**settings)
