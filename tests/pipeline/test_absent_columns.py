"""Columns whose data is not there: left out, said to be so, and no reason to do nothing."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import MissingInputError
from sigma_pipeline.infra.storage import write_json
from sigma_pipeline.pipeline.absent_columns import absent_columns, without_columns
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.evaluating import recorded_evaluation
from sigma_pipeline.pipeline.preview import preview
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.stage_names import StageName

SSV2 = {"benchmark": "finetune", "column": "ssv2", "dataset": "clips"}
CHARADES = {"benchmark": "multilabel", "column": "charades", "dataset": "homes"}
KNN = {"benchmark": "knn", "dataset": "homes"}

MakeConfig = Callable[..., PipelineConfig]


@pytest.fixture
def make_config(recipe_values: dict[str, Any]) -> MakeConfig:
    """The recipe with these cells, on two datasets."""

    def make(*cells: dict[str, Any]) -> PipelineConfig:
        clips = recipe_values["datasets"]["clips"]
        datasets = {"clips": clips, "homes": {"source": "/somewhere"}}
        evaluate = {"cells": list(cells)}
        return PipelineConfig.model_validate(
            recipe_values | {"datasets": datasets, "evaluate": evaluate}
        )

    return make


@pytest.fixture
def sharded_clips(services: Services) -> None:
    """Both splits of ``clips``, complete in the store."""
    for split in ("train", "val"):
        ref = DatasetRef("clips", split, "v1")
        manifest = {"version": "v1", "settings": {}, "samples": 9, "root_hash": ""}
        write_json(services.storage, ref.manifest_key, manifest)


@pytest.mark.usefixtures("sharded_clips")
def test_a_column_without_its_dataset_is_left_out_of_the_evaluation(
    make_config: MakeConfig, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        request = recorded_evaluation(make_config(SSV2, CHARADES), services)

    assert [cell.column for cell in request.evaluate.cells] == ["ssv2"]
    assert list(request.absent) == ["charades"]
    assert "dataset 'homes' is not sharded" in request.absent["charades"]
    run_name = make_config(SSV2).run_name
    assert request.absent["charades"].endswith(f"the --config and --set of run '{run_name}'")
    assert "Column charades is left out: dataset 'homes'" in caplog.text
    assert ("homes", "val") not in request.datasets


@pytest.mark.usefixtures("sharded_clips")
def test_a_cell_that_fills_no_column_needs_its_dataset(
    make_config: MakeConfig, services: Services
) -> None:
    with pytest.raises(MissingInputError, match="dataset 'homes'"):
        recorded_evaluation(make_config(SSV2, KNN), services)


def test_without_any_of_the_data_nothing_can_be_done(
    make_config: MakeConfig, services: Services
) -> None:
    config = make_config(SSV2, CHARADES)
    absent = absent_columns(config, services.storage)

    with pytest.raises(MissingInputError, match="shard one of clips, homes"):
        without_columns(config, absent)


def test_what_jobs_or_an_earlier_stage_will_have_made_is_not_absent(
    make_config: MakeConfig, services: Services
) -> None:
    config = make_config(SSV2, CHARADES)
    versions = {name: {"train": "v9", "val": "v9"} for name in config.datasets}
    pinned = config.model_copy(update={"dataset_versions": versions})
    made = [("clips", "train"), ("clips", "val")]
    promised = [DatasetRef("homes", split, "v9") for split in ("train", "val")]

    assert list(absent_columns(config, services.storage)) == ["ssv2", "charades"]
    assert list(absent_columns(config, services.storage, made=made)) == ["charades"]
    assert list(absent_columns(pinned, services.storage, promised=promised)) == ["ssv2"]


@pytest.mark.usefixtures("sharded_clips")
def test_the_preview_says_which_columns_are_left_out(
    make_config: MakeConfig, commit: Callable[[int], None]
) -> None:
    commit(0)

    lines = list(preview([StageName.EVALUATE], make_config(SSV2, CHARADES)))

    assert "evaluate: column ssv2: finetune on clips/val, 1 seed, the last commit" in lines
    assert any(
        line.startswith("evaluate: column charades is left out: dataset 'homes'") for line in lines
    )
