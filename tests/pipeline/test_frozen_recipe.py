"""The recipe of the six datasets: what it asks for is what the published table has."""

import re

from sigma_pipeline.jobs.benchmarks.table import build_benchmark
from sigma_pipeline.pipeline.config import load_config
from sigma_pipeline.pipeline.recipe_files import read_recipe

DATASETS = ["ssv2", "k400", "ucf101", "hmdb51", "imagenet", "cifar100"]


def test_every_dataset_of_the_table_gets_both_cheap_benchmarks() -> None:
    config = load_config("frozen")

    cells = [(cell.dataset, cell.benchmark) for cell in config.evaluate.cells]

    both = [(dataset, name) for dataset in DATASETS for name in ("knn", "linear")]
    assert list(config.datasets) == DATASETS
    assert cells == [*both, ("ssv2", "linear_augmented")]


def test_views_are_the_published_numbers_and_of_pictures_one() -> None:
    views = {cell.dataset: cell.view for cell in load_config("frozen").evaluate.cells}

    assert [view.views for view in views.values() if view] == [6, 15, 15, 15, 1, 1]
    assert views["ssv2"] is not None
    assert views["ssv2"].sampling == "segments"


def test_directions_are_not_mirrored() -> None:
    (cell,) = (
        cell
        for cell in load_config("frozen").evaluate.cells
        if cell.benchmark == "linear_augmented"
    )

    probe = build_benchmark(cell.benchmark, cell.settings)

    assert probe.model_dump()["flip_probability"] == 0.0
    assert probe.cost == "dear"


def test_the_published_table_stands_above_it() -> None:
    rows = re.findall(r"^# +(\S+)((?: +\d\d\.\d){6})$", read_recipe("frozen").text, re.MULTILINE)

    table = {name: [float(number) for number in numbers.split()] for name, numbers in rows}
    assert list(table) == ["MVD", "MME", "VideoMAE", "MGMAE", "SIGMA-MLP", "SIGMA-DINO"]
    assert table["SIGMA-DINO"] == [20.8, 47.5, 80.7, 52.3, 45.0, 66.7]


def test_hours_of_extraction_fit_the_deadline_of_the_large_sets() -> None:
    cells = load_config("frozen").evaluate.cells

    large = [cell.deadline_min for cell in cells if cell.dataset in {"k400", "imagenet"}]
    assert large == [720] * 4
