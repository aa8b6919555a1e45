"""What lists and names alone rule out is said before anything is made."""

from pathlib import Path

import pytest

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.shard_plan import DatasetPlan, plan_dataset
from sigma_pipeline.jobs.shard_summary import check_listed


def planned(folder: Path, **settings: float) -> DatasetPlan:
    """Four videos are listed, one of which is there."""
    (folder / "a.mp4").write_bytes(b"video")
    lines = "".join(f"{name}.mp4 0\n" for name in "abcd")
    (folder / "train.csv").write_text(lines)
    dataset = DatasetConfig.model_validate(
        {
            "source": str(folder),
            "catalogue": "table",
            "splits": {"train": "train.csv"},
            **settings,
        }
    )
    return plan_dataset("set", dataset, ShardConfig(), folder / "scratch")


def test_too_many_missing_files_stop_the_stage_at_once(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"3 of 4 inputs cannot be used \(missing_file 3; the fir"):
        check_listed(planned(tmp_path), ShardConfig())


def test_as_many_as_are_allowed_do_not(tmp_path: Path) -> None:
    check_listed(planned(tmp_path), ShardConfig(max_rejected_fraction=0.75))
    check_listed(planned(tmp_path, max_rejected_fraction=0.75), ShardConfig())
