"""What ``make bench-evaluate`` counts."""

import os
import sys
from pathlib import Path

import pytest

from sigma_pipeline.pipeline.config import load_config
from tests.bench.evaluate import PARTS, _options
from tests.bench.evaluate_clips import make_clips
from tests.bench.evaluate_first import read_waited
from tests.bench.evaluate_sharing import RECIPE, compared
from tests.bench.figure import Figure
from tests.bench.process_cost import Cost, cost_of


def test_apart_is_the_sum_of_the_runs_of_one_benchmark() -> None:
    costs = {"together": Cost(40, 44), "knn": Cost(30, 33), "linear": Cost(40, 44)}
    costs["uvos"] = Cost(50, 55)

    figures = {figure.what: figure for figure in compared(costs)}

    ratio = figures["times as cheap together, processors"]
    assert (ratio.value, ratio.is_reached) == (3, True)
    assert figures["uvos: by the clock"].value == 55


def test_a_goal_may_ask_for_more_or_for_less() -> None:
    assert Figure("ratio", 2.4, "x", at_least=2.5).line().endswith("at least 2.5: **missed** |\n")
    assert Figure("wait", 4.9, "s", at_most=5).line().endswith("at most 5: met |\n")
    assert Figure("load", 9, "").is_reached


def test_all_three_benchmarks_see_the_same_clips() -> None:
    evaluate = load_config(str(RECIPE)).evaluate

    assert [cell.benchmark for cell in evaluate.cells] == ["knn", "linear", "uvos"]
    assert {(cell.train_split, cell.test_split) for cell in evaluate.cells} == {("all", "all")}
    assert evaluate.view is not None
    assert not any(cell.view for cell in evaluate.cells)


def test_grandchildren_that_outlive_their_parent_are_counted(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 1: pass"
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {busy!r}])"

    cost = cost_of([sys.executable, "-c", orphan], tmp_path / "log.txt")

    assert cost.processor_s > 0.7


def test_a_command_that_fails_is_not_taken_for_cheap(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="ended with status 1:\nno such recipe"):
        cost_of([sys.executable, "-c", "raise SystemExit('no such recipe')"], tmp_path / "log.txt")


def test_the_wait_is_from_a_commit_to_the_first_of_its_scores(tmp_path: Path) -> None:
    def put(key: str, at_s: float) -> None:
        path = tmp_path / "runs/r1" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (at_s, at_s))

    for step, wait_s in ((0, 9), (100, 2), (200, 4), (300, 3)):
        put(f"train/step-{step:08d}/a1/commit.json", 1000 + step)
        put(f"evaluate/step-{step:08d}/knn/clips/0-abc.json", 1000 + step + wait_s)
        put(f"evaluate/step-{step:08d}/linear/clips/0-abc.json", 1000 + step + 50)

    waited = read_waited(tmp_path, "r1")

    assert waited.by_step == {0: 9, 100: 2, 200: 4, 300: 3}
    first, median, slowest = waited.figures("here", 5)
    assert (first.value, median.value, slowest.value) == (9, 3, 4)
    assert (first.is_reached, median.is_reached) == (False, True)


def test_real_videos_get_a_mask_for_each_frame_of_their_middle_clip(
    real_videos: Path, tmp_path: Path
) -> None:
    make_clips(real_videos, tmp_path, count=2)

    videos = sorted(path for path in tmp_path.glob("*/*") if path.is_file())
    assert len(videos) == 2
    for video in videos:
        assert len(list(video.with_suffix(".masks").glob("*.png"))) == 16


def test_a_part_that_there_is_not_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "SOURCES.csv").touch()

    assert _options(["--data", str(tmp_path)]).parts == list(PARTS)
    with pytest.raises(SystemExit):
        _options(["--data", str(tmp_path), "tapes"])
    assert "no part tapes; there are sharing, first" in capsys.readouterr().err
