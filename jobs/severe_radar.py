"""SEVERE's table as a radar: the published rows, and the one row that stands for the run."""

from sigma_pipeline.jobs.figure_radar import Radar, RadarAxis, RadarPolygon
from sigma_pipeline.jobs.severe import SevereTable
from sigma_pipeline.jobs.severe_columns import EIGHT, PUBLISHED, SevereColumn, Values


def severe_radar(table: SevereTable) -> Radar | None:
    """What is drawn; None where the run fills no column of the eight.

    Each axis goes from the least value to the greatest one of all rows that are shown, UCF-RC from
    the greatest error to the least. Stand-ins are not drawn.
    """
    row = table.chosen
    if row is None or not EIGHT.keys() & row.values.keys():
        return None
    shown = [(one.method, one.values) for one in PUBLISHED]
    shown.append((f"{table.run_name}, {row.encoder}", row.values))
    ranges = {name: _range(name, [values for _, values in shown]) for name in EIGHT}
    axes = [_axis(name, *ranges[name]) for name in EIGHT]
    polygons = [
        RadarPolygon(
            name,
            [_part(column, values, ranges[column]) for column in EIGHT],
            is_ours=number == len(PUBLISHED),
        )
        for number, (name, values) in enumerate(shown)
    ]
    heading = [
        f"SEVERE: {table.run_name}, {row.encoder}, against published ViT-B of K400",
        "each axis from the least to the greatest value shown, outwards is better",
    ]
    return Radar(heading, axes, polygons)


def _range(name: SevereColumn, rows: list[Values]) -> tuple[float, float]:
    """The worst and the best number of a column, as it is shown."""
    values = [row[name] for row in rows if name in row]
    worst, best = min(values), max(values)
    return (worst, best) if EIGHT[name].is_percent else (best, worst)


def _axis(name: SevereColumn, worst: float, best: float) -> RadarAxis:
    column = EIGHT[name]
    return RadarAxis(column.title, column.text(worst), column.text(best))


def _part(name: SevereColumn, values: Values, ends: tuple[float, float]) -> float | None:
    if name not in values:
        return None
    worst, best = ends
    return (values[name] - worst) / (best - worst)
