"""A table of learning from few as curves: scores over the number of examples, with their spread."""

from collections.abc import Sequence

from sigma_pipeline.data_prep.manifest import read_manifest
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.encoders import SUPERVISED
from sigma_pipeline.jobs.few import FewPoint, FewRow, FewTable
from sigma_pipeline.jobs.figure_curve import Curve, CurvePoint, Curves


def few_curves(storage: Storage, table: FewTable) -> Curves:
    """What is drawn: of many encoders the first, the best, the last and the supervised one.

    The whole training split has the place of its number of samples.
    """
    sizes = [(_samples(storage, table, size), _text(size)) for size in table.sizes]
    return Curves(
        heading=[
            f"{table.benchmark} on {table.dataset}: {table.score}",
            "mean over seeds; thick: standard deviation; thin: least to greatest",
        ],
        size_title="training samples, over all classes",
        sizes=sorted(sizes),
        curves=[_curve(storage, table, row) for row in _shown(table.rows)],
    )


def _shown(rows: Sequence[FewRow]) -> list[FewRow]:
    commits = [row for row in rows if row.encoder != SUPERVISED]
    kept = [*commits[:1], *commits[-1:], *(row for row in rows if row.is_best)]
    return [row for row in rows if row in kept or row.encoder == SUPERVISED]


def _curve(storage: Storage, table: FewTable, row: FewRow) -> Curve:
    name = f"{row.encoder}, the best" if row.is_best else row.encoder
    return Curve(name, [_point(storage, table, point) for point in row.points])


def _point(storage: Storage, table: FewTable, point: FewPoint) -> CurvePoint:
    return CurvePoint(
        size=_samples(storage, table, point.examples),
        mean=point.mean,
        deviation=point.deviation,
        least=min(point.values),
        greatest=max(point.values),
    )


def _samples(storage: Storage, table: FewTable, examples: int | None) -> float:
    """How many samples a size stands for: as asked for, or those of the split."""
    if examples is not None:
        return examples
    manifest = table.trial.train and read_manifest(storage, table.trial.train)
    return float(manifest["samples"]) if manifest else 2 * max(filter(None, table.sizes))


def _text(examples: int | None) -> str:
    return "all" if examples is None else str(examples)
