"""In what cells differ from those of the recipe of SEVERE."""

import pytest

from sigma_pipeline.data_prep.config import MultiViewConfig, ViewConfig
from sigma_pipeline.jobs.benchmarks.table import build_benchmark
from sigma_pipeline.jobs.obstacles import chosen_view
from sigma_pipeline.jobs.severe_settings import column_deviations
from sigma_pipeline.pipeline.config import load_config

SEVERE = load_config("severe").evaluate


@pytest.mark.parametrize("number", range(len(SEVERE.cells)))
def test_the_packaged_recipe_is_what_columns_are_held_against(number: int) -> None:
    cell = SEVERE.cells[number]
    benchmark = build_benchmark(cell.benchmark, cell.settings)

    found = column_deviations(cell.column, benchmark, chosen_view(SEVERE, number, benchmark))

    assert found == ()


def test_other_settings_and_views_are_named_with_what_is_usual() -> None:
    view = MultiViewConfig(sampling="segments", segments=1, crops=3)
    short = build_benchmark("finetune", {"epochs": 5, "keeps_weights": False})

    assert column_deviations("ssv2", short, view) == (
        "epochs 5, not 40",
        "flip_probability 0.5, not 0.0",
        "segments 1, not 2",
    )
    assert column_deviations(None, short, ViewConfig()) == ()
