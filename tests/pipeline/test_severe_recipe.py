"""The recipe of SEVERE: what it asks for is what the published table has."""

import re

from sigma_pipeline.jobs.benchmarks.table import build_benchmark
from sigma_pipeline.jobs.severe_columns import COLUMNS, PUBLISHED
from sigma_pipeline.pipeline.config import load_config
from sigma_pipeline.pipeline.recipe_files import read_recipe

CELLS = load_config("severe").evaluate.cells


def test_every_column_has_its_cell_in_the_order_of_the_table() -> None:
    assert [cell.column for cell in CELLS] == list(COLUMNS)


def test_few_shot_columns_draw_as_severe_does() -> None:
    drawn = {cell.column: (cell.examples, cell.seeds) for cell in CELLS if cell.examples}

    assert drawn == {"ucf_1k": ((1000,), (0,)), "gym_1k": ((1000,), (0,))}


def test_views_are_the_published_numbers() -> None:
    views = {cell.column: cell.view.views for cell in CELLS if cell.view}

    assert (views["ssv2"], views["ucf_1k"], views["charades"]) == (6, 15, 30)


def test_directions_are_not_mirrored_and_ssv2_is_trained_as_its_script() -> None:
    settings = {
        cell.column: build_benchmark(cell.benchmark, cell.settings).model_dump() for cell in CELLS
    }

    ssv2, gym = settings["ssv2"], settings["gym99"]
    assert (ssv2["flip_probability"], ssv2["epochs"]) == (0.0, 40)
    assert (gym["flip_probability"], gym["epochs"]) == (0.5, 100)
    assert CELLS[0].view is not None
    assert CELLS[0].view.sampling == "segments"


def test_gangs_share_every_step() -> None:
    for cell in CELLS:
        built = build_benchmark(cell.benchmark, cell.settings).model_dump()
        batch = built.get("batch_videos") or built["batch_clips"]
        assert batch % (2 * cell.processes) == 0, cell.column


def test_subsets_of_finegym_are_those_of_the_columns() -> None:
    datasets = load_config("severe").datasets

    subsets = {name: datasets[name].options.get("subset") for name in ("fx_s1", "ub_s1", "gym99")}

    assert subsets == {"fx_s1": "fx_s1", "ub_s1": "ub_s1", "gym99": None}


def test_the_published_table_stands_above_it() -> None:
    rows = re.findall(r"^# +(\S+)((?: +[\d.]+){9})$", read_recipe("severe").text, re.MULTILINE)

    table = {name: [float(number) for number in numbers.split()] for name, numbers in rows}
    assert table == {row.method: [*row.values.values(), row.mean] for row in PUBLISHED}
