"""What sharding would cost."""

from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.jobs.shard_cost import Cost, Trial, estimate
from sigma_pipeline.jobs.shard_plan import DatasetPlan, plan_dataset


@pytest.fixture
def plan(tmp_path: Path) -> DatasetPlan:
    """16 equal videos, and a broken one among the items that are tried."""
    frames = np.zeros((6, 32, 48, 3), np.uint8)
    for number in range(17):
        path = tmp_path / f"source/train/{number:02d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, frames, fps=10, crf=20, gop_frames=6)
    data = path.read_bytes()
    (path.parent / "09.mp4").write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
    config = {"source": str(tmp_path / "source"), "splits": {"train": 1.0}}
    dataset = DatasetConfig.model_validate(config)
    return plan_dataset("set", dataset, ShardConfig(), tmp_path / "scratch")


def test_a_few_items_are_prepared_and_the_rest_is_reckoned_by_bytes(plan: DatasetPlan) -> None:
    cost = estimate(plan, ["train"])

    assert cost
    assert (cost.num_items, len(cost.trials)) == (17, 8)
    good = [trial for trial in cost.trials if not trial.rejected]
    assert len(good) == 7
    assert {trial.megapixels for trial in good} == {6 * 32 * 48 / 1e6}
    assert all(trial.cpu_s > 0 and trial.stored_bytes > trial.source_bytes for trial in good)
    tried_bytes = sum(trial.source_bytes for trial in cost.trials)
    scale = cost.source_bytes / tried_bytes
    assert cost.cpu_s == pytest.approx(scale * sum(trial.cpu_s for trial in cost.trials))
    assert not plan.scratch_dir.exists()


def test_without_items_there_is_nothing_to_reckon(plan: DatasetPlan) -> None:
    assert estimate(plan, []) is None


def test_it_is_told_in_one_line() -> None:
    trials = (Trial(1000, 500, cpu_s=2.0, megapixels=30), Trial(1000, rejected="corrupt"))

    line = Cost(num_items=200, source_bytes=2_000_000, trials=trials).describe(workers=4)

    assert line == (
        "by 2 of 200 items, 1 rejected (corrupt): 2.0 MB become 0.5 MB in 33 min of one core "
        "(15 megapixels/s); 8 min with 4 workers"
    )
