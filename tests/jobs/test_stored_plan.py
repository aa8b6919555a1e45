"""Plans in files: read in pieces, equal to what was written, and of the right version."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.config import LimitsConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.items import Item, Segment
from sigma_pipeline.data_prep.ledger import LedgerRow
from sigma_pipeline.data_prep.sample import SampleSettings
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.shard_plan import FORMAT_VERSION, DatasetPlan, SplitPlan
from sigma_pipeline.jobs.stored_plan import Lines, require_same_code, stored_plan

NUM_UNITS = 5


def item(number: int) -> Item:
    """One of every kind of field; the name is no UTF-8."""
    files = (SourceFile(f"/data/{number}\udcff.mp4", f"{number}\udcff.mp4", number),)
    return Item(
        name=f"{number}\udcff.mp4#0.1-0.3",
        media="video",
        files=files,
        split="train",
        class_name="run",
        label=number,
        labels=(1, number + 2),
        segment=Segment(0.1, 0.1 + 0.2),
        annotation='{"count": 3}',
        sidecars=files,
        listed_at="train.txt:7",
    )


@pytest.fixture
def plan(tmp_path: Path) -> DatasetPlan:
    left_out = (LedgerRow("notes.txt", 3, "not_a_video", "text", counted=False),)
    units = tuple((item(number), item(number + 10)) for number in range(NUM_UNITS))
    return DatasetPlan(
        name="set",
        splits=(
            SplitPlan(DatasetRef("set", "train", "v1"), units, left_out),
            SplitPlan(DatasetRef("set", "val", "v2"), (), ()),
        ),
        classes=("run",),
        settings={"format": FORMAT_VERSION},
        sample_settings=SampleSettings(2, None, LimitsConfig()),
        max_rejected_fraction=None,
        scratch_dir=tmp_path,
    )


def test_a_stored_plan_says_what_was_planned(plan: DatasetPlan, tmp_path: Path) -> None:
    with stored_plan(plan, tmp_path / "stored") as stored:
        received: DatasetPlan = pickle.loads(pickle.dumps(stored))

        for split, planned in zip(received.splits, plan.splits, strict=True):
            assert tuple(split.units) == planned.units
            assert tuple(split.left_out) == planned.left_out
            assert split.num_videos == planned.num_videos
        assert received.splits[0].units[3] == plan.splits[0].units[3]
        assert received.splits[0].units[-1:] == [plan.splits[0].units[-1]]
        assert replace(received, splits=plan.splits) == plan


def test_what_is_sent_does_not_grow_with_the_plan(plan: DatasetPlan, tmp_path: Path) -> None:
    large = replace(plan.splits[0], units=plan.splits[0].units * 100)

    with (
        stored_plan(plan, tmp_path / "a") as small_plan,
        stored_plan(replace(plan, splits=(large, plan.splits[1])), tmp_path / "b") as large_plan,
    ):
        assert len(pickle.dumps(small_plan)) == len(pickle.dumps(large_plan))


def test_the_files_go_with_the_block_and_logs_stay(plan: DatasetPlan, tmp_path: Path) -> None:
    with stored_plan(plan, tmp_path / "stored"):
        (tmp_path / "stored/7_0_log.err").touch()

    assert [path.name for path in (tmp_path / "stored").iterdir()] == ["7_0_log.err"]


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    Lines.write(tmp_path / "lines", int, "v1", [1, 2])

    with pytest.raises(StageError, match="line 1 of version v1 where line 1 of v2 was to be"):
        Lines[int](tmp_path / "lines", int, "v2")[1]


def test_a_place_past_the_end_is_an_index_error(tmp_path: Path) -> None:
    lines = Lines.write(tmp_path / "lines", int, "v1", [1, 2])

    with pytest.raises(IndexError):
        lines[2]


def test_another_version_of_the_code_is_refused(plan: DatasetPlan) -> None:
    require_same_code(plan)
    older = replace(plan, settings={"format": FORMAT_VERSION - 1})

    with pytest.raises(StageError, match="install one version on all nodes"):
        require_same_code(older)
