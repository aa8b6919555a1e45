"""SEVERE's table of a run: filled columns, absent ones, and what only stands in for one."""

from dataclasses import replace
from pathlib import Path

import pytest

from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.planned_trials import record_absent, record_grid
from sigma_pipeline.jobs.scores import TableCell, TableRow
from sigma_pipeline.jobs.severe import SevereTable, severe_table
from sigma_pipeline.jobs.severe_columns import COLUMNS, EIGHT, SevereColumn
from sigma_pipeline.jobs.severe_text import as_csv, main_rows, markdown, remarks, stand_in_rows
from tests.jobs.severe_cells import (
    SIGMA_DINO,
    make_trial,
    plan,
    plan_column,
    put_dataset,
    put_official,
    scored,
    scored_row,
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """With the own dataset of every column, and a trial of each of the eight."""
    storage = open_storage(str(tmp_path / "store"))
    put_official(storage, SIGMA_DINO)
    record_grid(storage, "r1", [plan_column(name) for name in SIGMA_DINO])
    return storage


def table_of(storage: Storage, *rows: TableRow) -> SevereTable:
    table = severe_table(storage, "r1", rows)
    assert table is not None
    return table


def with_cell(row: TableRow, name: SevereColumn, cell: TableCell) -> TableRow:
    number = list(EIGHT).index(name)
    return replace(row, cells=(*row.cells[:number], cell, *row.cells[number + 1 :]))


def test_scores_stand_in_the_table_as_published_numbers_do(storage: Storage) -> None:
    table = table_of(storage, scored_row(SIGMA_DINO))

    published, own = main_rows(table)[-2:]
    assert own[0] == "r1, step 9"
    assert " ".join(own[1:]) == "70.9 89.7 84.1 28.0 55.1 79.9 0.169 23.3 64.3"
    assert own[1:] == published[1:]


@pytest.mark.parametrize("name", EIGHT)
def test_a_column_that_is_not_there_takes_the_mean_with_it(
    storage: Storage, name: SevereColumn
) -> None:
    column = COLUMNS[name]
    failed = TableCell(column.benchmark, name, "failed", reason="out of memory")

    table = table_of(storage, with_cell(scored_row(SIGMA_DINO), name, failed))

    own = main_rows(table)[-1]
    assert own[1 + list(EIGHT).index(name)] == own[-1] == "-"
    assert own.count("-") == 2
    assert f"{column.title} is absent for step 9: out of memory" in remarks(table)
    assert "No mean: it takes all eight columns." in remarks(table)


def test_a_column_left_out_for_want_of_data_says_so(storage: Storage) -> None:
    record_grid(storage, "r1", [plan_column(name) for name in list(EIGHT)[1:]])
    record_absent(storage, "r1", {"ssv2": "dataset 'ssv2' has not been sharded"})
    values = {name: value for name, value in SIGMA_DINO.items() if name != "ssv2"}

    table = table_of(storage, scored_row(values))

    assert "SSv2 is absent: dataset 'ssv2' has not been sharded" in remarks(table)
    assert main_rows(table)[-1][1] == "-"
    assert b"ssv2,,absent,,,,,dataset 'ssv2' has not been sharded" in as_csv(table)


def test_other_data_is_a_stand_in_whatever_it_is_called(storage: Storage) -> None:
    put_dataset(storage, "ssv2", version="v1", classes=10, train=60, test=40)

    table = table_of(storage, scored_row(SIGMA_DINO))

    (row,) = table.rows
    assert row.mean is None
    assert "ssv2" not in row.values
    assert main_rows(table)[-1][1] == "-"
    assert stand_in_rows(table) == [
        ["stand-ins", "ssv2 for SSv2"],
        ["r1, step 9", "70.9"],
    ]
    said = "ssv2/train has 60 samples of 10 classes, where Something-Something v2 has 168913 of 174"
    assert f"ssv2 only stands in for SSv2: {said}" in remarks(table)
    assert b"ssv2,ssv2,stand-in,70.9" in as_csv(table)


@pytest.mark.parametrize(
    ("train", "test", "classes", "is_own"),
    [
        (9_537, 3_783, 101, True),
        (8_600, 3_500, 101, True),
        (9_537, 3_400, 101, False),
        (8_500, 3_783, 101, False),
        (9_586, 3_734, 101, False),  # the second fold
        (9_537, 3_783, 100, False),
    ],
)
def test_data_is_the_column_s_own_by_its_classes_and_nine_tenths_of_its_samples(
    storage: Storage, train: int, test: int, classes: int, is_own: bool
) -> None:
    put_dataset(storage, "ucf_1k", classes=classes, train=train, test=test)

    (row,) = table_of(storage, scored_row(SIGMA_DINO)).rows

    assert row.cells["ucf_1k"].state == ("filled" if is_own else "stand-in")


def test_another_number_of_examples_is_a_stand_in(storage: Storage) -> None:
    trials = [plan_column(name) for name in SIGMA_DINO]
    number = list(EIGHT).index("ucf_1k")
    trials[number] = plan(make_trial("ucf_1k", examples=500), "ucf_1k")
    record_grid(storage, "r1", trials)

    table = table_of(storage, scored_row(SIGMA_DINO))

    said = "learns from 500 examples, not from 1000 examples"
    assert f"ucf_1k only stands in for UCF 1k: {said}" in remarks(table)


def test_of_several_sizes_the_column_s_own_fills_it(storage: Storage) -> None:
    sizes = [plan(make_trial("ucf_1k", examples=size), "ucf_1k") for size in (250, 1000, 2000)]
    record_grid(storage, "r1", sizes)
    cells = tuple(scored("ucf_1k", shown) for shown in (50.0, 84.1, 90.0))

    (row,) = table_of(storage, TableRow("step 9", 9, cells)).rows

    assert row.values == {"ucf_1k": pytest.approx(84.1)}


def test_test_samples_that_are_missing_are_counted_beside_the_number(storage: Storage) -> None:
    row = scored_row(SIGMA_DINO)
    (other, score) = row.cells[0].scores
    cell = replace(row.cells[0], scores=(other, replace(score, samples=24_000)))

    table = table_of(storage, with_cell(row, "ssv2", cell))

    assert "SSv2, step 9: 24000 of 24777 test samples" in remarks(table)


def test_a_smaller_training_set_and_other_settings_are_said_beside_the_number(
    storage: Storage,
) -> None:
    put_dataset(storage, "ucf_1k", classes=101, train=8_600, test=3_783)
    trials = [plan_column(name) for name in SIGMA_DINO]
    trials[0] = replace(trials[0], deviations=("epochs 1, not 40", "segments 1, not 2"))
    record_grid(storage, "r1", trials)

    said = remarks(table_of(storage, scored_row(SIGMA_DINO)))

    assert "UCF 1k, step 9: 8600 of 9537 training samples" in said
    assert "SSv2, step 9: epochs 1, not 40; segments 1, not 2" in said


def test_a_benchmark_without_the_column_s_score_leaves_it_absent(storage: Storage) -> None:
    row = scored_row(SIGMA_DINO)
    cell = replace(row.cells[4], scores=row.cells[4].scores[:1])

    table = table_of(storage, with_cell(row, "fx_s1", cell))

    assert "FX-S1 is absent for step 9: finetune gave no mean_class" in remarks(table)


def test_an_extra_column_is_shown_where_the_run_has_it_and_is_in_no_mean(storage: Storage) -> None:
    without = main_rows(table_of(storage, scored_row(SIGMA_DINO)))
    put_official(storage, {"ava": 0.0})
    record_grid(storage, "r1", [plan_column(name) for name in (*SIGMA_DINO, "ava")])

    rows = main_rows(table_of(storage, scored_row({**SIGMA_DINO, "ava": 26.0})))

    assert "AVA" not in without[0]
    assert rows[0][-2:] == ["AVA", "mean"]
    assert rows[-1][-2:] == ["26.0", "64.3"]
    assert rows[1][-2:] == ["-", "51.0"]


def test_the_row_that_stands_for_the_run_has_most_columns_then_is_the_best_then_the_newest(
    storage: Storage,
) -> None:
    full = [scored_row(SIGMA_DINO, f"step {step}", step) for step in (1, 2, 3)]
    failed = TableCell("finetune", "ssv2", "failed", reason="no")
    rows = [
        full[0],
        replace(full[1], is_best=True),
        full[2],
        replace(with_cell(full[2], "ssv2", failed), encoder="step 4", step=4, is_best=True),
    ]

    def chosen(*among: TableRow) -> str:
        row = table_of(storage, *among).chosen
        assert row is not None
        return row.encoder

    assert chosen(*rows) == "step 2"
    assert chosen(rows[0], rows[2]) == "step 3"
    assert chosen(rows[0], rows[3]) == "step 1"


def test_without_a_column_in_the_recipe_there_is_no_table(storage: Storage) -> None:
    record_grid(storage, "r1", [plan(make_trial("ssv2"))])

    assert severe_table(storage, "r1", [scored_row({"ssv2": 70.0})]) is None


def test_the_files_hold_published_and_own_numbers(storage: Storage) -> None:
    table = table_of(storage, scored_row(SIGMA_DINO))

    text, lines = markdown(table).decode(), as_csv(table).decode().splitlines()

    own = "| r1, step 9 | 70.9 | 89.7 | 84.1 | 28.0 | 55.1 | 79.9 | 0.169 | 23.3 | 64.3 |"
    assert own in text.splitlines()
    assert ",SIGMA-DINO,,ucf_rc,,published,0.169,,,," in lines
    assert "r1,step 9,9,ucf_rc,ucf_rc,filled,0.169,0.169,0.169,1," in lines
    assert "r1,step 9,9,mean,,filled,64.2625,,,," in lines
