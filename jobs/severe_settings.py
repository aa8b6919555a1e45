"""In what a cell differs from the one that the recipe ``severe`` has for its column."""

from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from sigma_pipeline.data_prep.config import AnyViewConfig
from sigma_pipeline.jobs.benchmarks.benchmark import Benchmark
from sigma_pipeline.jobs.severe_columns import COLUMNS, SevereColumn

_VIEW: TypeAdapter[AnyViewConfig] = TypeAdapter(AnyViewConfig)
_ASIDE = {"keeps_weights", "shown_videos"}
"""Settings that change no score."""


def column_deviations(
    name: SevereColumn | None, benchmark: Benchmark, view: AnyViewConfig
) -> tuple[str, ...]:
    """What is set otherwise than in the recipe ``severe``: ``epochs 5, not 100``.

    Args:
        name: the column that it fills; nothing differs where it fills none.
        benchmark: that of the column, with the cell's settings.
        view: how the clips of the cell are cut.
    """
    if name is None:
        return ()
    column = COLUMNS[name]
    usual = type(benchmark)(**column.settings)
    usual_view = usual.needs.view if column.view is None else _VIEW.validate_python(column.view)
    return (
        *_differences(benchmark.model_dump(), usual.model_dump()),
        *_differences(view.model_dump(), usual_view.model_dump()),
    )


def _differences(found: dict[str, Any], usual: dict[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*usual, *found)):
        one, other = found.get(name, "absent"), usual.get(name, "absent")
        if one != other and name not in _ASIDE:
            yield f"{name} {one}, not {other}"
