"""A stand-in for AVA, from frames and lists to frame mAP."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sigma_pipeline.data_prep.augment import whole_frame
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks import box_outputs, detection
from sigma_pipeline.jobs.benchmarks.box_clips import frames_around
from sigma_pipeline.jobs.benchmarks.detection import ActionDetection
from sigma_pipeline.jobs.benchmarks.gang import OwnProcess
from sigma_pipeline.jobs.benchmarks.scored_seconds import scored_seconds
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.config import TrainConfig
from sigma_pipeline.jobs.encoders import EncoderSource, committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scoring import run_cell
from sigma_pipeline.jobs.train_request import RankPlace
from sigma_pipeline.model.box_classifier import BoxClassifier
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.encoder import Encoder
from tests.jobs.benchmarks.movies import CLASSES, LEFT, index_of, movie
from tests.jobs.evaluation.ava_stand_in import write_ava
from tests.jobs.evaluation.conftest import MODEL, RUN
from tests.jobs.evaluation.shard_here import shard_here
from tests.jobs.evaluation.squares import SIZE

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL_8 = ModelConfig.model_validate(MODEL.model_dump() | {"num_frames": 8, "tubelet_frames": 8})
CELL: dict[str, Any] = {
    "benchmark": "detection",
    "dataset": "ava",
    "settings": {
        "epochs": 20,
        "warmup_epochs": 2,
        "visits_per_movie": 12,
        "batch_clips": 6,
        "frame_stride": 1,
        "base_lr": 6e-1,
        "dropout": 0.1,
        "drop_path": 0.0,
        "layer_decay": 0.9,
    },
}
Clips = Mapping[int, Sequence[Path]]
Make = Callable[..., EvaluateRequest]
Score = Callable[..., CellRecord]


@pytest.fixture
def clips(real_videos: Path) -> Clips:
    """Ten of each of four actions, by the number that stands for it."""
    folders = {1: "bend", 5: "jack", 12: "wave1", 69: "wave2"}
    return {
        action: sorted((real_videos / "actions/weizmann64" / name).iterdir())
        for action, name in folders.items()
    }


@pytest.fixture
def score(
    storage: Storage,
    clips: Clips,
    tmp_path: Path,
    make_request: Make,
    add_commit: Callable[..., Commit],
) -> Score:
    """Scores an untrained encoder on six training and four validation movies."""

    def run(*, predicted: bool = False, **settings: Any) -> CellRecord:
        ava = write_ava(tmp_path / "ava", clips, train_clips=6, predicted=predicted)
        datasets: Mapping[tuple[str, str], DatasetRef] = shard_here(storage, "ava", tmp_path, **ava)
        cell = CELL | {"settings": CELL["settings"] | settings}
        request = replace(make_request(cell, pictures=True, batch_clips=64), datasets=datasets)
        grid = plan_grid(storage, request)
        (planned,) = grid.trials[0].cells(RUN, committed_encoder(add_commit(0, model=MODEL_8)))
        run_cell(storage, grid.cell_request(grid.trials[0], planned))
        record = CellRecord.read(storage, planned)
        assert record is not None
        return record

    return run


@pytest.mark.slow
@pytest.mark.usefixtures("one_rank")
def test_what_is_done_in_the_boxes_of_a_detector_is_learned_and_scored(
    storage: Storage, score: Score
) -> None:
    record = score(predicted=True)

    (score_of_all,) = record.scores
    table = pq.read_table(io.BytesIO(storage.read(record.outcomes))).to_pydict()
    assert score_of_all.name == "frame_map"
    assert score_of_all.value > 0.6  # a quarter of the persons do the same
    assert score_of_all.low <= score_of_all.value <= score_of_all.high
    assert (len(set(table["key"])), table["seconds"]) == (4, [12] * 4)
    assert np.mean(table["frame_map"]) == pytest.approx(score_of_all.value)
    assert record.notes == ("mean over 4 classes: of 80, 4 count and 4 have a true box",)
    assert any(path.endswith(".png") for path in record.files)


def test_a_split_with_fewer_movies_than_a_step_makes_it_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[TrainConfig] = []
    monkeypatch.setattr(
        detection, "fine_tune", lambda _subject, _tuning, train: steps.append(train)
    )
    monkeypatch.setattr(
        detection, "box_outputs", lambda *found: np.zeros((len(found[-1]), len(CLASSES)))
    )
    index = index_of(*(movie(number, {902: [(LEFT, 2, 0)]}) for number in range(3)))
    subject: Any = SimpleNamespace(
        train=index,
        train_positions=None,
        test=index,
        source=EncoderSource("step-00000000", 0, "w", "0", MODEL_8.model_dump(mode="json")),
        gang=OwnProcess(),
        batch_clips=32,
        precision="fp32",
    )

    result = ActionDetection().scores_of(subject, seed=0)

    (train,) = steps
    assert (train.global_batch_clips, train.commit_every_steps) == (3, 2)
    assert result.notes[0] == (
        "batch_clips=32 is more than the 3 training videos: 3 a step, and the learning rate as "
        "much lower"
    )


class InTurn:
    """Three processes, one after another in this one."""

    size = 3

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """See ``Gang``."""
        places = (RankPlace(rank=rank, world_size=self.size) for rank in range(self.size))
        return [function(place, *arguments) for place in places]


@pytest.mark.parametrize("batch_clips", [1, 64])
def test_processes_share_out_the_boxes_of_a_second(
    storage: Storage,
    clips: Clips,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_clips: int,
) -> None:
    two = {action: paths[:2] for action, paths in list(clips.items())[:2]}
    ava = write_ava(tmp_path / "ava", two, train_clips=1)
    ref = shard_here(storage, "ava", tmp_path, **ava)["ava", "val"]
    index = Index.load(storage, ref)
    boxes = scored_seconds(index, 0.9, with_predicted=False).boxes
    model = BoxClassifier(Encoder(MODEL_8), 80, seed=0).eval()
    torch.nn.init.normal_(model.classifier.head.weight)
    monkeypatch.setattr(box_outputs, "fine_tuned_model", lambda *_: (model, torch.device("cpu")))
    source = EncoderSource("step-00000000", 0, "weights", "0", MODEL_8.model_dump(mode="json"))
    tuning = ActionDetection(frame_stride=1).tuning(source, 80, None, seed=0)
    subject: Any = SimpleNamespace(
        storage=storage,
        scratch_dir=tmp_path,
        test=index,
        batch_clips=batch_clips,
        precision="fp32",
        gang=InTurn(),
    )

    found = box_outputs.box_outputs(subject, tuning, Any, boxes)  # type: ignore[arg-type]

    assert len(boxes) == len(found) == 4  # of two seconds
    reader = FrameReader(storage, index)
    for box in range(4):
        around = frames_around(int(boxes.frames[box // 2]), reader.num_frames(0), 8, 1)
        clip = reader.clips(0, around, [whole_frame(*reader.size(0))], SIZE)
        corners = torch.from_numpy(boxes.corners[None, box : box + 1]).float()
        expected = model(clip, corners)[0, 0].sigmoid().detach().numpy()
        np.testing.assert_allclose(found[box], expected, atol=1e-6)
