"""Real actions through every frozen benchmark: an untrained encoder beside one trained a little."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.config import SupervisedConfig
from sigma_pipeline.jobs.encoders import EncoderSource, committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scoring import run_cell
from sigma_pipeline.jobs.supervised import train_supervised
from sigma_pipeline.jobs.supervised_request import SupervisedRequest, find_supervised
from sigma_pipeline.model.config import ModelConfig
from tests.jobs.evaluation.conftest import MODEL, RUN
from tests.jobs.evaluation.shard_here import shard_here

pytestmark = pytest.mark.usefixtures("one_thread")
Score = Callable[[str, EncoderSource], Mapping[str, CellRecord]]
ONE_TUBELET = ModelConfig.model_validate(
    MODEL.model_dump() | {"num_frames": 8, "tubelet_frames": 8}
)
"""A token holds all that happens in its patch: motion is learned in a minute."""
SETS = ("weizmann64", "arid", "hmdb51", "kinetics", "surv_fight", "ucf101")
VIEW = {"frame_stride": 3, "crop": "resize"}
SETTINGS: Mapping[str, dict[str, Any]] = {
    "knn": {"k": 5},
    "linear": {"min_steps": 200},
    "linear_augmented": {"epochs": 2, "batch_videos": 8, "base_lr": 0.1},
}


@pytest.fixture
def score(
    storage: Storage,
    real_videos: Path,
    tmp_path: Path,
    make_request: Callable[..., EvaluateRequest],
) -> Score:
    """Shards a set of real clips, half of each class to learn from, and scores an encoder."""

    def run(name: str, source: EncoderSource) -> Mapping[str, CellRecord]:
        folder = str(real_videos / "actions" / name)
        shares = {"train": 0.5, "val": 0.5}
        splits = shard_here(storage, name, tmp_path, source=folder, splits=shares)
        cells = [
            {"benchmark": benchmark, "dataset": name, "view": VIEW, "settings": settings}
            for benchmark, settings in SETTINGS.items()
        ]
        grid = plan_grid(storage, replace(make_request(*cells, pictures=True), datasets=splits))
        records = {}
        for planned in grid.trials:
            (cell,) = planned.cells(RUN, source)
            run_cell(storage, grid.cell_request(planned, cell))
            record = CellRecord.read(storage, cell)
            assert record is not None
            records[planned.trial.benchmark] = record
        return records

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_each_set_of_real_actions_is_scored_and_shown(
    score: Score, add_commit: Callable[..., Commit], name: str
) -> None:
    records = score(name, committed_encoder(add_commit(0)))

    assert records.keys() == SETTINGS.keys()
    for benchmark, record in records.items():
        assert record.scores[0].samples > 0
        shown = {key.rpartition("/")[2] for key in record.files}
        assert shown == {"confusion.png"} | ({"neighbours.png"} if benchmark == "knn" else set())


@pytest.mark.slow
def test_an_encoder_that_was_taught_actions_is_above_an_untrained_one(
    storage: Storage, score: Score, add_commit: Callable[..., Commit]
) -> None:
    untrained = score("weizmann64", committed_encoder(add_commit(0, model=ONE_TUBELET)))
    train = untrained["knn"].trial.train
    assert train is not None
    request = SupervisedRequest(
        run_name=RUN,
        config=SupervisedConfig(dataset="weizmann64", steps=150, batch_clips=20, peak_lr=3e-3),
        model=ONE_TUBELET.model_dump(mode="json"),
        ref=train,
        view=ViewConfig.model_validate(VIEW),
        pooling="mean",
        precision="fp32",
        seed=0,
    )
    train_supervised(storage, request)
    taught = find_supervised(storage, request)
    assert taught is not None

    trained = score("weizmann64", taught)

    for benchmark in ("knn", "linear"):
        before, after = (of[benchmark].scores[0].value for of in (untrained, trained))
        assert after >= before + 0.1, f"{benchmark}: {before} untrained, {after} taught"
