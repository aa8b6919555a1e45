"""SEVERE's columns: what is published, the mean of it, and which cell may fill which."""

from dataclasses import dataclass, replace

import pytest

from sigma_pipeline.jobs.severe_columns import (
    COLUMNS,
    EIGHT,
    PUBLISHED,
    PublishedRow,
    SevereColumn,
    column_problems,
    severe_mean,
)

# Worked out by hand from the published rows, to two decimals.
MEANS = {
    "SVT": 51.01,
    "MVD": 52.03,
    "VideoMAE": 57.40,
    "MGMAE": 58.79,
    "SIGMA-MLP": 61.53,
    "SIGMA-DINO": 64.26,
}


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.method)
def test_the_mean_is_that_of_each_published_row(row: PublishedRow) -> None:
    mean = severe_mean(row.values)

    assert mean is not None
    assert mean == pytest.approx(MEANS[row.method], abs=0.005 + 1e-9)
    assert mean == pytest.approx(row.mean, abs=0.08)  # MVD's is printed as 52.1


def test_all_six_published_rows_are_there() -> None:
    assert [row.method for row in PUBLISHED] == list(MEANS)


@pytest.mark.parametrize("name", EIGHT)
def test_without_any_one_of_the_eight_there_is_no_mean(name: SevereColumn) -> None:
    values = dict(PUBLISHED[-1].values)
    del values[name]

    assert severe_mean(values) is None


def test_an_extra_column_changes_no_mean() -> None:
    values = PUBLISHED[-1].values

    assert severe_mean({**values, "ava": 99.0}) == severe_mean(values)
    assert [name for name in COLUMNS if name not in EIGHT] == ["ava"]


def test_a_lower_error_is_a_higher_mean() -> None:
    values = PUBLISHED[-1].values

    better = severe_mean({**values, "ucf_rc": values["ucf_rc"] - 0.08})

    assert better == pytest.approx(64.2625 + 1.0, abs=0.01)


@dataclass(frozen=True)
class Cell:
    """What a recipe says."""

    benchmark: str = "finetune"
    examples: tuple[int, ...] | None = None
    column: SevereColumn | None = None


SSV2 = Cell(column="ssv2")
UCF = Cell(column="ucf_1k", examples=(1000,))


def test_cells_that_fill_their_columns_are_no_problem() -> None:
    curve = replace(UCF, column="gym_1k", examples=(100, 1000))
    counting = Cell("counting", column="ucf_rc")

    assert not list(column_problems([SSV2, UCF, curve, counting, Cell("knn")]))


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (replace(SSV2, benchmark="knn"), "knn cannot fill it, it is top1 of finetune"),
        (replace(SSV2, column="fx_s1", benchmark="counting"), "it is mean_class of finetune"),
        (replace(SSV2, examples=(1000,)), "it learns from all training samples"),
        (replace(UCF, examples=None), "set examples: [1000], alone or among others"),
        (replace(UCF, examples=(500,)), "set examples: [1000], alone or among others"),
        (replace(UCF, examples=(100, 500)), "set examples: [1000], alone or among others"),
    ],
)
def test_a_cell_that_cannot_fill_its_column_is_a_problem(cell: Cell, problem: str) -> None:
    (found,) = column_problems([Cell("knn"), cell])

    assert found.startswith(f"cells.1.column={cell.column}: ")
    assert problem in found


def test_two_cells_of_one_column_are_a_problem() -> None:
    (problem,) = column_problems([SSV2, UCF, SSV2])

    assert problem == ("cells.2.column=ssv2: cells.0 fills it already; remove it from one of them")
