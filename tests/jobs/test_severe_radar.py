"""The radar: where a number lies on its axis, and what is drawn."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.figure_radar import Radar, RadarAxis, RadarPolygon, draw_radar
from sigma_pipeline.jobs.planned_trials import record_grid
from sigma_pipeline.jobs.severe import severe_table
from sigma_pipeline.jobs.severe_columns import EIGHT, PUBLISHED, SevereColumn
from sigma_pipeline.jobs.severe_radar import severe_radar
from tests.jobs.severe_cells import SIGMA_DINO, plan_column, put_official, scored_row

RED = (200, 30, 30)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "store"))


def radar_of(storage: Storage, values: dict[SevereColumn, float]) -> Radar | None:
    put_official(storage, values)
    record_grid(storage, "r1", [plan_column(name) for name in values])
    table = severe_table(storage, "r1", [scored_row(values)])
    assert table is not None
    return severe_radar(table)


def reddish_pixels(data: bytes) -> int:
    """Those of ours: the web is smoothed, so that few have its very colour."""
    red, green, _ = np.moveaxis(np.asarray(Image.open(io.BytesIO(data))).astype(int), -1, 0)
    return int((red > green + 90).sum())


def test_each_axis_goes_from_the_worst_to_the_best_number(storage: Storage) -> None:
    radar = radar_of(storage, {**SIGMA_DINO, "ssv2": 80.0, "ucf_rc": 0.05})

    assert radar is not None
    ranges = {axis.title: axis.range for axis in radar.axes}
    assert ranges["SSv2"] == "59.5 to 80.0"
    assert ranges["UCF-RC"] == "0.421 to 0.050"
    assert [polygon.name for polygon in radar.polygons] == [
        *(row.method for row in PUBLISHED),
        "r1, step 9",
    ]
    ours, svt = radar.polygons[-1], radar.polygons[0]
    assert (ours.parts[0], ours.parts[6]) == (1.0, 1.0)
    assert (svt.parts[0], svt.parts[6]) == (0.0, 0.0)
    sigma = radar.polygons[-2].parts[0]
    assert sigma == pytest.approx((70.9 - 59.5) / (80.0 - 59.5))


def test_an_absent_column_is_a_gap(storage: Storage) -> None:
    values = {name: value for name, value in SIGMA_DINO.items() if name != "gym99"}

    radar = radar_of(storage, values)

    assert radar is not None
    missing = [part is None for part in radar.polygons[-1].parts]
    assert missing == [name == "gym99" for name in EIGHT]


def test_without_a_filled_column_nothing_is_drawn(storage: Storage) -> None:
    record_grid(storage, "r1", [plan_column("ssv2", "somewhere_else")])
    table = severe_table(storage, "r1", [scored_row({"ssv2": 70.0})])

    assert table is not None
    assert severe_radar(table) is None


def axes(number: int) -> list[RadarAxis]:
    return [RadarAxis(f"axis {n}", "0", "1") for n in range(number)]


def drawn(*parts: float | None) -> bytes:
    ours = RadarPolygon("ours", parts, is_ours=True)
    others = RadarPolygon("others", [0.5] * len(parts))
    return draw_radar(Radar(["heading"], axes(len(parts)), [others, ours]))


def test_a_value_at_the_rim_lies_where_its_axis_ends() -> None:
    picture = Image.open(io.BytesIO(drawn(1.0, None, None, None)))

    rows, columns = np.nonzero((np.asarray(picture) == RED).all(axis=-1))
    dot = columns < columns.max() - 100  # the rest is the legend
    middle = columns[dot].mean()
    upwards = RadarPolygon("ours", [None, None, 1.0, None], is_ours=True)
    below = np.asarray(
        Image.open(io.BytesIO(draw_radar(Radar(["heading"], axes(4), [upwards, upwards]))))
    )
    rows_below, columns_below = np.nonzero((below == RED).all(axis=-1))
    dot_below = columns_below < columns_below.max() - 100
    assert columns_below[dot_below].mean() == pytest.approx(middle, abs=1)
    assert rows_below[dot_below].mean() - rows[dot].mean() == pytest.approx(500, abs=2)


def test_lines_join_only_neighbours_that_are_there() -> None:
    closed, open_, dots = drawn(1, 1, 1, 1), drawn(1, 1, None, 1), drawn(1, None, 1, None)

    # Two of four sides go with a missing corner; two opposite corners alone are dots.
    assert reddish_pixels(closed) > reddish_pixels(open_) > reddish_pixels(dots) > 0
    assert reddish_pixels(closed) - reddish_pixels(open_) > 500
