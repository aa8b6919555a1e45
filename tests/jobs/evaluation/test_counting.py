"""Counting from a commit to scores and pictures, on rendered cycles, with a tiny encoder."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sigma_pipeline.data_prep.config import ClipConfig, RenderedConfig, ViewConfig
from sigma_pipeline.data_prep.demo import render
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.benchmark import Subject
from sigma_pipeline.jobs.benchmarks.counting import RepetitionCounting
from sigma_pipeline.jobs.benchmarks.cycle_videos import MarkedVideos
from sigma_pipeline.jobs.benchmarks.figures import Counts, SelfSimilarity
from sigma_pipeline.jobs.benchmarks.fine_tuning import training_config
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.commits import Commit, committed_steps
from sigma_pipeline.jobs.decoded import ClipShape
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.figures import draw_figures
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.optimizer import learning_rate
from sigma_pipeline.jobs.scoring import run_cell
from sigma_pipeline.model.config import ModelConfig
from tests.jobs.evaluation.conftest import MODEL, RUN
from tests.jobs.evaluation.shard_here import shard_here
from tests.jobs.evaluation.subjects import trained_subject
from tests.jobs.process_gang import ProcessGang
from tests.jobs.train_runs import at_step

pytestmark = [
    pytest.mark.usefixtures("one_rank", "one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]
NAME = "r1/evaluate/step-00000000/counting/cycles/0-f.training"
SMALL = ModelConfig.model_validate(
    MODEL.model_dump()
    | {"num_frames": 8, "tubelet_frames": 8, "frame_size_px": 16, "patch_size_px": 8}
)
QUICK: dict[str, Any] = {
    "epochs": 3,
    "clips_per_video": 2,
    "warmup_epochs": 1,
    "batch_clips": 4,
    "scales": 5,
    "refinements": 1,
    "levels": 3,
    "shown_videos": 1,
}
LEARNER = ModelConfig.model_validate(
    MODEL.model_dump()
    | {"num_frames": 16, "tubelet_frames": 16, "frame_size_px": 16, "patch_size_px": 4}
    | {"encoder": {"embed_dim": 96, "depth": 2, "num_heads": 4}}
)
"""A token holds all that happens in its patch: cycles are learned in a minute."""
LEARNING: dict[str, Any] = {
    "benchmark": "counting",
    "dataset": "cycles",
    "settings": {
        "epochs": 16,
        "warmup_epochs": 2,
        "batch_clips": 30,
        "base_lr": 1.6e-2,
        "weight_decay": 0.01,
        "layer_decay": 1.0,
        "drop_path": 0.0,
    },
}
MakeSubject = Callable[..., Subject]
Refs = Mapping[tuple[str, str], DatasetRef]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "cycles"
    config = RenderedConfig(kind="cycles", train_clips=9, val_clips=6, frames=48, size_px=16)
    render(config, folder, workers=1)
    return folder


@pytest.fixture
def refs(storage: Storage, rendered: Path, tmp_path: Path) -> Refs:
    return shard_here(
        storage,
        "cycles",
        tmp_path,
        source=str(rendered),
        sidecars=True,
        splits={"train": 0.8, "val": 0.2},
    )


@pytest.fixture
def make_subject(
    storage: Storage, refs: Refs, add_commit: Callable[..., Commit], tmp_path: Path
) -> MakeSubject:
    """Rendered cycles, and an untrained encoder."""
    source = committed_encoder(add_commit(0, model=SMALL))

    def make(**changes: Any) -> Subject:
        splits = refs["cycles", "train"], refs["cycles", "val"]
        fields = {"view": ViewConfig(), "training_name": NAME} | changes
        return trained_subject(storage, source, splits, tmp_path, **fields)

    return make


def test_every_video_is_counted_and_some_are_shown(
    make_subject: MakeSubject, storage: Storage
) -> None:
    subject = make_subject()

    result = RepetitionCounting(**QUICK).scores_of(subject, seed=0)

    true = MarkedVideos.of(subject.test, "test").counts
    assert result.outcomes["count"] == true
    errors = np.abs(np.array(result.outcomes["prediction"]) - true)
    mae, obo = result.scores
    assert mae.value == pytest.approx((errors / true).mean())
    assert obo.value == (errors <= 1).mean()
    assert committed_steps(storage, NAME)[-1] == 3 * 2 * (9 // 4)
    assert list(result.files) == ["training/curve.csv"]
    (note,) = result.notes
    assert note.startswith("who always says ")
    counts, similarity = result.figures
    assert counts == Counts(true, result.outcomes["prediction"])
    assert isinstance(similarity, SelfSimilarity)
    assert np.diagonal(similarity.similarity) == pytest.approx(np.ones(64), abs=1e-5)
    files = draw_figures(
        storage, result.figures, None, subject.test, ClipShape.of(ViewConfig(), SMALL)
    )
    assert sorted(files) == sorted(["counts.png", f"{similarity.key}-cycles.png"])


def test_only_videos_that_teach_and_can_be_counted_are_taken_however_few_make_a_step(
    make_subject: MakeSubject,
) -> None:
    subject = make_subject()
    assert subject.train is not None
    rows = [
        replace(row, annotation=None) if number == 0 else row
        for number, row in enumerate(subject.test.rows)
    ]
    test = Index(subject.test.ref, subject.test.classes, subject.test.root_hash, rows)
    part = subject.train.part([1, 3, 4, 5, 7])
    small = replace(subject, train=part, train_positions=(1, 3, 4, 5, 7), test=test)

    counting = RepetitionCounting(**QUICK | {"epochs": 1, "shown_videos": 0, "batch_clips": 32})
    result = counting.scores_of(small, 0)

    assert result.outcomes["key"] == [row.key for row in rows[1:]]
    assert result.notes[0] == "1 of 6 test samples have no cycles marked: left out"
    assert result.notes[-1] == (
        "batch_clips=32 is more than the 5 training videos: 5 a step, and the learning rate as "
        "much lower"
    )
    assert len(result.figures) == 1


def test_an_attempt_that_failed_is_gone_on_with_to_the_same_counts(
    make_subject: MakeSubject, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = RepetitionCounting(**QUICK | {"drop_path": 0.3})
    undisturbed = counting.scores_of(make_subject(training_name="undisturbed"), 0)

    at_step(monkeypatch, 7, die)
    with pytest.raises(StageError, match="the node is gone"):
        counting.scores_of(make_subject(), 0)
    before = committed_steps(storage, NAME)
    resumed = counting.scores_of(make_subject(), 0)

    assert 0 < before[-1] < 7
    assert resumed.outcomes == undisturbed.outcomes
    first, second = (one.figures[1] for one in (resumed, undisturbed))
    assert isinstance(first, SelfSimilarity)
    assert isinstance(second, SelfSimilarity)
    assert np.array_equal(first.similarity, second.similarity)


def test_defaults_are_the_published_numbers(make_subject: MakeSubject) -> None:
    counting, subject = RepetitionCounting(), make_subject(batch_clips=32)
    marked = MarkedVideos.of(subject.test, "train")
    tuning = counting._tuning(subject, 0, replace(marked, positions=tuple(range(421))))
    train = training_config(subject, tuning, counting.recipe(32, 10), num_videos=421)

    # 100 epochs of 10 clips of each video, 32 in a step.
    assert (train.epochs, train.global_batch_clips) == (1000, 32)
    rate = learning_rate(50 * 13, train.optimizer, 13, train.epochs, 32)
    assert rate == pytest.approx(5e-5)
    assert train.optimizer.weight_decay == 1e-3
    assert tuning.clip == ClipConfig(starts="any", crop="resize", flip_probability=0.5)
    assert (tuning.box_weight, tuning.context.near, tuning.context.far) == (50, 1, 2)
    search = counting._search
    assert (search.scales, search.refinements, search.levels, search.parts) == (30, 4, 5, 16)
    assert search.guesses(1000)[[0, -1]] == pytest.approx([30, 350])


@pytest.mark.slow
def test_it_learns_to_count_rendered_cycles_though_it_dies_on_the_way(
    storage: Storage,
    make_request: Callable[..., EvaluateRequest],
    add_commit: Callable[..., Commit],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = RenderedConfig(kind="cycles", train_clips=60, val_clips=24, frames=48, size_px=16)
    render(config, tmp_path / "rendered", workers=1)
    source: dict[str, Any] = {"source": str(tmp_path / "rendered"), "sidecars": True}
    refs = shard_here(storage, "cycles", tmp_path, **source, splits={"train": 0.7, "val": 0.3})
    request = replace(make_request(LEARNING, pictures=True, batch_clips=480), datasets=refs)
    grid = plan_grid(storage, request)
    (trial,) = grid.trials
    (cell,) = trial.cells(RUN, committed_encoder(add_commit(0, model=LEARNER)))

    at_step(monkeypatch, 150, die)
    with pytest.raises(StageError, match="the node is gone"):
        run_cell(storage, grid.cell_request(trial, cell))
    begun: list[int] = []
    at_step(monkeypatch, 100, lambda: begun.append(100))
    run_cell(storage, grid.cell_request(trial, cell))

    assert not begun
    record = CellRecord.read(storage, cell)
    assert record is not None
    mae, obo = record.scores
    mean_mae = float(record.notes[0].rpartition(" ")[2])
    assert mae.value < 0.25 < mean_mae
    assert obo.value > 0.8
    names = {key.rpartition("/")[2] for key in record.files}
    assert {"curve.csv", "counts.png"} < names
    assert len(names) == 6  # and four videos
    assert not [key for key in storage.list(f"runs/{RUN}/evaluate") if ".training/" in key]


@pytest.mark.slow
def test_two_processes_count_as_one_does(make_subject: MakeSubject, tmp_path: Path) -> None:
    counting = RepetitionCounting(**QUICK | {"drop_path": 0.3, "shown_videos": 0})
    one = counting.scores_of(make_subject(training_name="one"), 0)

    two = counting.scores_of(make_subject(gang=ProcessGang(2, tmp_path / "gang")), 0)

    assert two.outcomes == one.outcomes


def die() -> None:
    raise StageError("the node is gone")
