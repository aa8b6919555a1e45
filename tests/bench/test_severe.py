"""The stand-ins of ``make severe``."""

import csv
from pathlib import Path

import pytest

from sigma_pipeline.jobs.severe_columns import COLUMNS
from sigma_pipeline.pipeline.config import load_config
from tests.bench.severe import RECIPE, write_lists


@pytest.fixture
def rows() -> list[dict[str, str]]:
    """Clips as ``SOURCES.csv`` has them: of performers, and without any."""
    bent = [(f"actions/weizmann64/bend/{i}.mp4", "bend", f"person{i % 5}") for i in range(10)]
    fights = [
        (f"actions/surv_fight/{label}/{i}.mp4", label, "")
        for label in ("fight", "noFight")
        for i in range(6)
    ]
    columns = ("path", "label", "group", "note")
    return [dict(zip(columns, (*row, "x"), strict=True)) for row in (*bent, *fights)]


def lists(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Rows of both lists."""
    found = {}
    for split in ("train", "val"):
        with (folder / f"{split}.csv").open(newline="") as file:
            found[split] = list(csv.DictReader(file))
    return found


def test_nobody_who_is_tested_is_learned_from(rows: list[dict[str, str]], tmp_path: Path) -> None:
    write_lists(rows, "weizmann64", tmp_path / "made")

    groups = {
        split: {row["group"] for row in one} for split, one in lists(tmp_path / "made").items()
    }
    assert groups == {
        "train": {"person0", "person1", "person2"},
        "val": {"person3", "person4"},
    }


def test_where_nothing_groups_clips_each_class_is_cut_alike(
    rows: list[dict[str, str]], tmp_path: Path
) -> None:
    write_lists(rows, "surv_fight", tmp_path / "made")

    found = {split: [row["path"] for row in one] for split, one in lists(tmp_path / "made").items()}
    assert found["val"] == [
        f"actions/surv_fight/{c}/{i}.mp4" for c in ("fight", "noFight") for i in (2, 5)
    ]
    assert len(found["train"]) == 8
    assert not set(found["train"]) & set(found["val"])


def test_every_column_of_severe_has_a_stand_in() -> None:
    cells = load_config(str(RECIPE)).evaluate.cells

    assert {cell.column for cell in cells} - {None} == set(COLUMNS)
    assert all(cell.every == 1 for cell in cells), "the untrained encoder is scored beside the last"
