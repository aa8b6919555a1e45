"""The table of ``make learn``, and the recipe behind it."""

from pathlib import Path

import pytest
import torch

from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.scores import TableCell, TableRow
from sigma_pipeline.pipeline.config import load_config
from tests.bench.easy_features import frame_differences, mean_frame
from tests.bench.learn import CHANCE, OBJECTIVES, RECIPE, _options, _run, table_rows


def scored(encoder: str, value: float) -> TableRow:
    score = Score("top1", value, "fraction", True, value - 0.1, value + 0.1, samples=40)
    return TableRow(encoder, 0, (TableCell("knn", "weizmann", "done", (score,), ((score,),)),))


def test_each_encoder_is_shown_with_its_seeds_mean_range_and_interval() -> None:
    sigma = [[scored("untrained", 0.2), scored("step 9", value)] for value in (0.5, 0.8)]
    pixels = [[scored("untrained", 0.3), scored("step 9", value)] for value in (0.4, 0.6)]

    easy = {("knn", "weizmann"): scored("any", 0.9).cells[0].scores[0]}
    rows = list(table_rows({"sigma": sigma, "pixels": pixels}, {"mean frame": easy}))

    assert [row[2] for row in rows] == ["untrained", "sigma", "pixels", "mean frame"]
    assert rows[3][3:5] == ("0.900", "0.900")
    assert rows[0][3:5] == ("0.200 0.200 0.300 0.300", "0.250")
    assert rows[1] == (
        *("knn", "weizmann", "sigma"),
        *("0.500 0.800", "0.650", "0.500-0.800", "[0.550, 0.750]", "0.250"),
    )


def test_a_score_that_is_missing_is_named() -> None:
    failed = TableRow("step 9", 9, (TableCell("knn", "weizmann", "failed"),))

    with pytest.raises(ValueError, match="step 9 has no score for knn on weizmann"):
        list(table_rows({"sigma": [[scored("untrained", 0.2), failed]]}, {}))


def test_easy_features_tell_places_and_motion() -> None:
    clips = torch.zeros(2, 3, 4, 16, 16)
    clips[0, :, :, :8, :8] = 1.0  # lies still in the first quarter
    clips[1, :, ::2, 8:, 8:] = 1.0  # flickers in the last one

    assert mean_frame(clips).view(2, 8, 8)[:, 1, 1].tolist() == [1.0, 0.0]
    assert frame_differences(clips).tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_reads_no_labels_and_each_performer_is_left_out(objective: str) -> None:
    config = load_config(RECIPE, OBJECTIVES[objective])

    assert config.evaluate.supervised is None
    assert {cell.dataset for cell in config.evaluate.cells} == set(CHANCE)
    assert all(cell.settings["leave_one_group_out"] for cell in config.evaluate.cells)


def test_a_folder_without_the_table_of_videos_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _options(["--data", str(tmp_path)])

    assert f"no SOURCES.csv in {tmp_path}" in capsys.readouterr().err


def test_a_run_that_fails_is_told_with_the_place_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "run.log"

    with pytest.raises(SystemExit, match=rf"a run ended with status 2; see {log}"):
        _run(["train.epochs=none"], log)

    assert "train.epochs" in log.read_text()
