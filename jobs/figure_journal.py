"""Figures of finished cells on their way to MLflow: a series of pictures, videos beside them."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.jobs.planned_trials import PlannedTrial
from sigma_pipeline.jobs.scores import score_folder
from sigma_pipeline.jobs.scoring import FIGURES


def journal_figures(
    journal: Journal,
    journaled: set[tuple[str, int]],
    source: EncoderSource,
    planned: PlannedTrial,
    records: Sequence[CellRecord],
) -> None:
    """Brings the figures of a trial on one encoder to the journal, each once.

    Pictures are ``evaluate/<benchmark>/<dataset>/<figure>``, a series over the commits; the video
    of one is a file beside them, in a folder of its encoder.

    Args:
        journal: takes them.
        journaled: (name, step) of what was brought before; what is brought now is added.
        source: the encoder.
        planned: the trial.
        records: of its cells.
    """
    folder = score_folder(source, planned)
    figures = {path: key for record in records for path, key in _figures(record)}
    for path, key in figures.items():
        point = f"{folder}/{path.stem}", source.step
        if path.suffix != ".png" or point in journaled:
            continue
        journaled.add(point)
        journal.picture(*point, key)
        video = path.with_suffix(".mp4")
        if video in figures:
            journal.artifact(f"{folder}/{source.name}/{video}", figures[video])


def _figures(record: CellRecord) -> list[tuple[PurePosixPath, str]]:
    """Name within the folder of figures, and key, of each."""
    found = ((key.partition(f".{record.attempt}/{FIGURES}/")[2], key) for key in record.files)
    return [(PurePosixPath(name), key) for name, key in found if name]
