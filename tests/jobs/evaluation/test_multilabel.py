"""A stand-in for Charades, from frames and lists to a mean average precision."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.rows import encode_rows
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.benchmarks.multilabel import Multilabel
from sigma_pipeline.jobs.cells import Cell, CellRecord
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import Grid, plan_grid
from sigma_pipeline.jobs.scoring import run_cell
from sigma_pipeline.model.config import ModelConfig
from tests.jobs.evaluation.charades_stand_in import write_charades
from tests.jobs.evaluation.conftest import MODEL, RUN
from tests.jobs.evaluation.shard_here import shard_here
from tests.jobs.train_runs import at_step

pytestmark = [
    pytest.mark.usefixtures("one_rank", "one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]
ONE_TUBELET = ModelConfig.model_validate(
    MODEL.model_dump()
    | {
        "num_frames": 8,
        "tubelet_frames": 8,
        "encoder": {"embed_dim": 48, "depth": 2, "num_heads": 2},
    }
)
"""A token holds all that happens in its patch: motion is learned in seconds."""
CELL: dict[str, Any] = {
    "benchmark": "multilabel",
    "dataset": "charades",
    "view": {"frame_stride": 3, "segments": 4, "crops": 2},
}
QUICK: dict[str, Any] = {
    "epochs": 100,
    "warmup_epochs": 2,
    "batch_videos": 24,
    "base_lr": 0.06,
    "layer_decay": 1.0,
    "drop_path": 0.0,
    "dropout": 0.0,
    "flip_probability": 0.0,
}
MakeRequest = Callable[..., EvaluateRequest]
Prepare = Callable[..., tuple[Grid, Cell]]


@pytest.fixture
def charades(storage: Storage, real_videos: Path, tmp_path: Path) -> Any:
    """24 training and 16 validation videos of two of four actions each."""
    folder = real_videos / "actions" / "weizmann64"
    clips = {path.name: sorted(path.iterdir()) for path in sorted(folder.iterdir())}
    settings = write_charades(tmp_path / "charades", clips, train_clips=6)
    return shard_here(storage, "charades", tmp_path, **settings)


@pytest.fixture
def prepare(
    storage: Storage, charades: Any, make_request: MakeRequest, add_commit: Callable[..., Commit]
) -> Prepare:
    """A cell of an untrained encoder."""
    source = committed_encoder(add_commit(0, model=ONE_TUBELET))

    def run(run_name: str = RUN, **changes: Any) -> tuple[Grid, Cell]:
        cell = {**CELL, **changes, "settings": QUICK | changes.get("settings", {})}
        request = replace(make_request(cell, pictures=True, batch_clips=192), datasets=charades)
        grid = plan_grid(storage, request)
        (planned,) = grid.trials
        assert planned.skipped is None
        (planned_cell,) = planned.cells(run_name, source)
        return grid, planned_cell

    return run


def scored(storage: Storage, grid: Grid, cell: Cell) -> tuple[CellRecord, dict[str, list[Any]]]:
    """The record of a cell, and its outcomes."""
    run_cell(storage, grid.cell_request(grid.trials[0], cell))
    record = CellRecord.read(storage, cell)
    assert record is not None
    outcomes = pq.read_table(io.BytesIO(storage.read(record.outcomes)))
    return record, outcomes.to_pydict()


@pytest.mark.slow
def test_actions_of_a_few_frames_are_learned_and_videos_are_scored_by_all_of_them(
    storage: Storage, prepare: Prepare
) -> None:
    record, outcomes = scored(storage, *prepare(test_split="train"))

    (score,) = record.scores
    assert (score.name, score.samples) == ("map", 24)
    assert score.value > 0.65  # where chance is .5
    assert {len(labels) for labels in outcomes["labels"]} == {2}
    assert {len(scores) for scores in outcomes["scores"]} == {4}
    kept = {key.rpartition("/")[2] for key in record.files}
    assert kept == {"average_precision.csv", "class_bars.png", "curve.csv", "model.safetensors"}


@pytest.mark.slow
def test_a_training_that_died_goes_on_from_its_commit_to_the_same_scores(
    storage: Storage, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 8, "batch_videos": 8, "drop_path": 0.2, "dropout": 0.5}
    _, whole = scored(storage, *prepare("whole", settings=settings))
    at_step(monkeypatch, 14, die)  # a commit every third step
    with pytest.raises(StageError, match="the node is gone"):
        scored(storage, *prepare(settings=settings))
    taken: list[int] = []
    at_step(monkeypatch, 11, lambda: taken.append(11))

    _, resumed = scored(storage, *prepare(settings=settings))

    assert not taken
    assert resumed == whole
    assert not [key for key in storage.list(f"runs/{RUN}/evaluate") if ".training/" in key]


def die() -> None:
    raise StageError("the node is gone")


def test_of_samples_with_one_class_each_class_is_told_from_the_others(
    storage: Storage, make_request: MakeRequest, add_commit: Callable[..., Commit]
) -> None:
    settings = QUICK | {"epochs": 6, "batch_videos": 8, "base_lr": 0.3}
    view = {"frame_stride": 2, "segments": 2}
    request = make_request({"benchmark": "multilabel", "settings": settings, "view": view})
    grid = plan_grid(storage, request)
    (cell,) = grid.trials[0].cells(RUN, committed_encoder(add_commit(0)))

    record, outcomes = scored(storage, grid, cell)

    assert record.scores[0].value > 0.8
    assert record.notes == ("each test sample has one class: each class is told from all others",)
    assert outcomes["labels"] == [[2 - number % 3] for number in range(12)]


def test_a_split_without_any_label_is_skipped_and_one_class_a_sample_will_do(
    storage: Storage, make_request: MakeRequest
) -> None:
    cell = {"benchmark": "multilabel"}
    bare, several = (cell | {"dataset": name, "train_split": "val"} for name in ("bare", "several"))
    request = make_request(cell, bare, several, several | {"examples": [4]})
    refs = {
        ("bare", "val"): without_class(storage, "bare", labels=()),
        ("several", "val"): without_class(storage, "several", labels=(0, 2)),
    }

    grid = plan_grid(storage, replace(request, datasets={**request.datasets, **refs}))

    assert [planned.skipped for planned in grid.trials] == [
        None,
        "split 'val' of dataset 'bare' has no class labels, neither one nor several of a sample",
        None,
        "split 'val' of dataset 'several' has no samples of one class, which examples are drawn by",
    ]


def without_class(storage: Storage, name: str, labels: tuple[int, ...]) -> DatasetRef:
    """A split whose samples are not of one class each, but all of ``labels``."""
    index = Index.load(storage, DatasetRef("squares", "val", "v1"))
    rows = [replace(row, label=None, class_name=None, labels=labels) for row in index.rows]
    ref = DatasetRef(name, "val", "v1")
    storage.write(ref.index_key, encode_rows(rows))
    manifest = {"samples": len(rows), "classes": list(index.classes), "root_hash": "0"}
    write_json(storage, ref.manifest_key, manifest)
    return ref


def test_the_protocol_is_ten_clips_of_three_squares_and_the_highest_of_them() -> None:
    benchmark = Multilabel()

    assert benchmark.needs.view.views == 30
    assert (benchmark.merging, benchmark.epochs, benchmark.dropout) == ("max", 57, 0.5)
