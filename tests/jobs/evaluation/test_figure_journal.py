"""Figures on their way to MLflow."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sigma_pipeline.infra.journal import Journal, read_entries
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import EncoderSource, committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation_record import EvaluationRecord
from sigma_pipeline.jobs.figure_journal import journal_figures
from sigma_pipeline.jobs.grid import Grid, plan_grid
from sigma_pipeline.jobs.scoring import run_cell

Scored = tuple[Grid, EncoderSource, CellRecord]


@pytest.fixture
def scored(
    storage: Storage,
    make_request: Callable[..., EvaluateRequest],
    add_commit: Callable[..., Commit],
) -> Scored:
    """A cell of unsupervised segmentation with its figures, at step 40."""
    grid = plan_grid(storage, make_request({"benchmark": "uvos"}, pictures=True))
    source = committed_encoder(add_commit(40))
    (cell,) = grid.trials[0].cells("r1", source)
    run_cell(storage, grid.cell_request(grid.trials[0], cell))
    record = CellRecord.read(storage, cell)
    assert record is not None
    return grid, source, record


def journaled(storage: Storage, journal: Journal, kind: str) -> list[dict[str, object]]:
    journal.flush()
    return [entry.fields for entry in read_entries(storage, "r1")[0] if entry.kind == kind]


def test_pictures_are_a_series_and_videos_stand_beside_them(
    storage: Storage, journal: Journal, scored: Scored
) -> None:
    grid, source, record = scored

    journal_figures(journal, set(), source, grid.trials[0], [record])

    pictures = journaled(storage, journal, "picture")
    videos = journaled(storage, journal, "artifact")
    assert pictures
    for picture, video in zip(pictures, videos, strict=True):
        key, name = Path(str(picture["key"])), str(picture["name"])
        assert (key.suffix, picture["step"]) == (".png", 40)
        assert name == f"evaluate/uvos/squares/{key.stem}"
        assert video["name"] == f"evaluate/uvos/squares/step-00000040/{key.stem}.mp4"
        assert video["key"] == str(key.with_suffix(".mp4"))
        assert storage.exists(str(key))
        assert storage.exists(str(video["key"]))


def test_nothing_is_brought_twice(storage: Storage, journal: Journal, scored: Scored) -> None:
    grid, source, record = scored
    known: set[tuple[str, int]] = set()

    journal_figures(journal, known, source, grid.trials[0], [record])
    once = len(journaled(storage, journal, "picture"))
    journal_figures(journal, known, source, grid.trials[0], [record])

    assert len(journaled(storage, journal, "picture")) == once == len(known)


def test_files_that_are_no_figures_are_left_where_they_are(
    storage: Storage, journal: Journal, scored: Scored
) -> None:
    grid, source, record = scored
    files = tuple(key.replace("/figures/", "/predictions/") for key in record.files)

    journal_figures(journal, set(), source, grid.trials[0], [replace(record, files=files)])

    assert journaled(storage, journal, "picture") == []


def test_an_evaluation_brings_the_figures_of_each_trial_with_its_scores(
    storage: Storage, journal: Journal, scored: Scored
) -> None:
    grid, source, _ = scored

    for _ in range(2):  # the second one reads what the first has brought
        EvaluationRecord(storage, journal, "r1").scores(source, grid.trials[0])
        pictures = journaled(storage, journal, "picture")

    names = [picture["name"] for picture in pictures]
    assert names
    assert len(names) == len(set(names))
