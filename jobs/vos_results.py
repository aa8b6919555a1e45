"""Results of video segmentation as the official DAVIS evaluator lays them: PNGs and tables."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from PIL import Image

from sigma_pipeline.jobs.benchmarks.davis_metrics import Ids, ObjectScores, global_scores
from sigma_pipeline.jobs.davis_palette import DAVIS_PALETTE

GLOBAL_CSV = "global_results-val.csv"
SEQUENCES_CSV = "per-sequence_results-val.csv"
OBJECT_COLUMNS = ("Sequence", "J-Mean", "F-Mean")

SequenceScores = Mapping[str, Sequence[ObjectScores]]
"""The objects of each sequence, by its name."""


def palette_png(ids: Ids) -> bytes:
    """A PNG of object ids [height, width], in the colours of DAVIS."""
    image = Image.frombytes("P", ids.shape[::-1], ids.tobytes())
    image.putpalette(DAVIS_PALETTE.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def results_csv(scores: SequenceScores) -> dict[str, bytes]:
    """The two tables of the official evaluator, by file name.

    Names and columns are the official ones; numbers have four decimals instead of three.
    """
    return {
        GLOBAL_CSV: _csv(global_rows(scores)),
        SEQUENCES_CSV: _csv([OBJECT_COLUMNS, *object_rows(scores)]),
    }


def global_rows(scores: SequenceScores) -> list[Sequence[str]]:
    """The names of the means over all objects, and the means."""
    means = global_scores(scored for objects in scores.values() for scored in objects)
    return [list(means), [_decimals(mean) for mean in means.values()]]


def object_rows(scores: SequenceScores) -> list[Sequence[str]]:
    """``OBJECT_COLUMNS`` of every object."""
    return [
        [f"{name}_{scored.object_id}", _decimals(scored.j.mean), _decimals(scored.f.mean)]
        for name, objects in scores.items()
        for scored in objects
    ]


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


def _decimals(value: float) -> str:
    return f"{value:.4f}"
