"""Learning from few: families of trials, their numbers over seeds, and the curve of them."""

import io
from dataclasses import replace
from pathlib import Path
from statistics import stdev

import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.few import FewTable, few_tables
from sigma_pipeline.jobs.few_curves import few_curves
from sigma_pipeline.jobs.few_text import few_csv, few_remark, few_rows
from sigma_pipeline.jobs.figure_curve import Curve, CurvePoint, Curves, draw_curves
from sigma_pipeline.jobs.scores import TableCell, TableRow
from tests.jobs.severe_cells import make_trial, plan, put_dataset

TRIALS = [
    plan(make_trial("ucf101", "knn", 1000)),
    plan(make_trial("ucf101", "knn")),
    plan(make_trial("ucf101", "knn", 250)),
    plan(make_trial("ucf101", "linear")),
]
BLUE, RED = (31, 120, 180), (200, 30, 30)


def cell(*values: float, label: str = "knn") -> TableCell:
    seeds = tuple(
        (Score("top1", one, "fraction", True, one, one, 40), Score("top5", 1.0, "", True, 1, 1, 40))
        for one in values
    )
    return TableCell(label, "ucf101", "done", seeds[0], seeds)


MISSING = TableCell("knn", "ucf101", "missing")
ROWS = [
    TableRow("untrained", 0, (cell(0.2, 0.3, 0.4), cell(0.5), cell(0.1, 0.1, 0.1), cell(0.9))),
    TableRow("step 9", 9, (cell(0.6, 0.7, 0.9), MISSING, MISSING, cell(0.9)), is_best=True),
]


def the_table() -> FewTable:
    (table,) = few_tables(TRIALS, ROWS)
    return table


def test_sizes_of_one_trial_are_a_table_and_the_whole_split_comes_last() -> None:
    table = the_table()

    assert (table.benchmark, table.dataset, table.score) == ("knn", "ucf101", "top1")
    assert table.sizes == (250, 1000, None)
    assert [[point.examples for point in row.points] for row in table.rows] == [
        [250, 1000, None],
        [1000],
    ]


def test_numbers_are_over_the_seeds() -> None:
    rows = few_rows(the_table())

    deviation = stdev((0.6, 0.7, 0.9))
    assert rows == [
        ["knn on ucf101, top1", "250", "1000", "all"],
        [
            "untrained",
            "0.100 +-0.000 [0.100, 0.100]",
            "0.300 +-0.100 [0.200, 0.400]",
            "0.500",
        ],
        ["step 9 *", "-", f"0.733 +-{deviation:.3f} [0.600, 0.900]", "-"],
    ]
    assert few_remark([the_table()]) == "Mean +- standard deviation [range] over 1 or 3 seeds."


def test_the_file_has_a_line_per_encoder_and_size() -> None:
    lines = few_csv([the_table()]).decode().splitlines()

    assert lines[0].startswith("benchmark,dataset,score,encoder,examples,seeds,mean,deviation")
    assert lines[2] == "knn,ucf101,top1,untrained,1000,3,0.3,0.1,0.2,0.4"
    assert lines[3] == "knn,ucf101,top1,untrained,all,1,0.5,,0.5,0.5"
    assert len(lines) == 5


def test_two_settings_of_one_benchmark_are_two_tables_with_marks() -> None:
    others = [replace(make_trial("ucf101", "knn", size), settings={"k": 3}) for size in (9, 99)]
    rows = [TableRow("untrained", 0, (*ROWS[0].cells, cell(0.25), cell(0.5)))]

    names = [table.name for table in few_tables([*TRIALS, *map(plan, others)], rows)]

    assert len(set(names)) == 2
    assert all(name.startswith("knn-") and name.endswith("-ucf101") for name in names)


def test_what_learns_from_all_alone_is_no_table() -> None:
    assert few_tables(TRIALS[3:], [TableRow("untrained", 0, (cell(0.5),))]) == []


def test_one_size_of_one_seed_is_no_table() -> None:
    row = TableRow("untrained", 0, (cell(0.5),))
    draws = replace(TRIALS[0], seeds=(0, 1))

    assert few_tables(TRIALS[:1], [row]) == []
    assert [table.sizes for table in few_tables([draws], [row])] == [(1000,)]


def test_before_anything_is_done_there_is_no_table() -> None:
    assert few_tables(TRIALS[:2], [TableRow("untrained", 0, (MISSING, MISSING))]) == []


def test_the_whole_split_lies_at_its_number_of_samples(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    put_dataset(storage, "ucf101", classes=101, train=9537, test=3783)

    curves = few_curves(storage, the_table())

    assert list(curves.sizes) == [(250, "250"), (1000, "1000"), (9537, "all")]
    assert [curve.name for curve in curves.curves] == ["untrained", "step 9, the best"]
    point = curves.curves[0].points[1]
    assert (point.size, point.least, point.greatest) == (1000, 0.2, 0.4)


def test_of_many_encoders_first_best_and_last_are_drawn(tmp_path: Path) -> None:
    cells = ROWS[0].cells
    rows = [TableRow(f"step {n}", n, cells, is_best=n == 3) for n in range(9)]
    rows.append(TableRow("supervised", 0, cells))
    (table,) = few_tables(TRIALS, rows)

    names = [curve.name for curve in few_curves(open_storage(str(tmp_path)), table).curves]

    assert names == ["step 0", "step 3, the best", "step 8", "supervised"]
    assert len(table.rows) == 10


def places(data: bytes, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Mean row and column of a colour, without the legend's."""
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    rows, columns = np.nonzero((pixels == colour).all(axis=-1))
    in_plot = columns < 600
    return float(rows[in_plot].mean()), float(columns[in_plot].mean())


def test_higher_scores_lie_higher_and_larger_sizes_further_right() -> None:
    low = Curve("low", [CurvePoint(10, 0.1, None, 0.1, 0.1)])
    high = Curve("high", [CurvePoint(1000, 0.9, 0.05, 0.8, 1.0)])
    data = draw_curves(Curves(["heading"], "samples", [(10, "10"), (1000, "1000")], [low, high]))

    (down, left), (up, right) = places(data, BLUE), places(data, RED)

    assert up < down - 200
    assert right > left + 400


@pytest.mark.parametrize("values", [(0.5, 0.5), (0.0, 1.0), (1e-6, 2e-6), (12.0, 340.0)])
def test_any_range_of_scores_can_be_drawn(values: tuple[float, float]) -> None:
    points = [
        CurvePoint(size, one, None, one, one) for size, one in zip((5, 5), values, strict=True)
    ]

    picture = Image.open(io.BytesIO(draw_curves(Curves([], "", [(5, "5")], [Curve("a", points)]))))

    assert picture.width > 500
