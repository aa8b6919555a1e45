"""Frame mAP of CSV files, made ones and heads of AVA's own."""

from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.jobs.ava_score import score_detections

LEFT, RIGHT = "0.1,0.1,0.4,0.9", "0.5,0.1,0.9,0.9"


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Two movies; action 3 twice, action 12 once."""
    lines = [f"A,0902,{LEFT},3,0", f"A,0902,{LEFT},12,0", f"B,0902,{RIGHT},3,7"]
    return write(tmp_path / "truth.csv", *lines)


def test_a_second_is_found_however_it_is_written(tmp_path: Path, truth: Path) -> None:
    found = write(tmp_path / "found.csv", f"A,902,{LEFT},3,0.9", f"B,0902,{RIGHT},3,0.8")

    scored = score_detections(found, truth)

    assert scored.precisions == {"action 3": 1.0, "action 12": 0.0}
    assert scored.mean == 0.5
    assert (scored.frames, scored.boxes, scored.detections, scored.elsewhere) == (2, 3, 2, 0)


def test_only_listed_actions_count_and_those_without_truth_are_named(
    tmp_path: Path, truth: Path
) -> None:
    found = write(tmp_path / "found.csv", f"A,902,{LEFT},12,0.9", f"A,902,{LEFT},4,0.9")
    items = ('item {\n name: "stand"\n id: 12\n}', 'item {\n name: "dance"\n id: 4\n}')
    actions = write(tmp_path / "list.pbtxt", *items)

    scored = score_detections(found, truth, actions=actions)

    assert (scored.precisions, scored.absent) == ({"stand": 1.0}, ["dance"])


def test_excluded_seconds_neither_help_nor_harm(tmp_path: Path, truth: Path) -> None:
    found = write(tmp_path / "found.csv", f"A,902,{RIGHT},3,0.99", f"B,902,{RIGHT},3,0.5")
    excluded = write(tmp_path / "excluded.csv", "A,0902")

    assert score_detections(found, truth).precisions["action 3"] == 0.25
    assert score_detections(found, truth, excluded=excluded).precisions == {"action 3": 1.0}


def test_a_frame_may_be_cut_to_its_surest_detections(tmp_path: Path, truth: Path) -> None:
    lines = (f"A,902,{LEFT},3,0.1", f"A,902,{LEFT},12,0.9", f"B,902,{RIGHT},3,0.2")
    found = write(tmp_path / "found.csv", *lines)

    scored = score_detections(found, truth, at_most=1)

    assert (scored.precisions, scored.detections) == ({"action 3": 0.5, "action 12": 1.0}, 2)


def test_detections_in_unknown_movies_are_counted(tmp_path: Path, truth: Path) -> None:
    found = write(tmp_path / "found.csv", f"C,902,{LEFT},3,0.9", f"A,902,{LEFT},3,0.8")

    scored = score_detections(found, truth)

    assert (scored.elsewhere, scored.precisions["action 3"]) == (1, 0.25)


def test_the_real_lists_score_one_with_themselves(real_videos: Path, tmp_path: Path) -> None:
    folder = real_videos / "annotations"
    truth = folder / "ava/ava_val_v2.1.head.csv"
    rows = [line.rsplit(",", 1)[0] for line in truth.read_text().split()]
    same = write(tmp_path / "same.csv", *(f"{row},0.5" for row in rows))
    half = write(tmp_path / "half.csv", *(f"{row},0.5" for row in rows[::2]))
    lists = {
        "actions": folder / "severe/ava/ava_action_list_v2.1_for_activitynet_2018.pbtxt.txt",
        "excluded": folder / "ava/ava_val_excluded_timestamps_v2.1.csv",
    }

    scored = score_detections(same, truth, **lists)

    assert set(scored.precisions.values()) == {1.0}
    assert len(scored.precisions) + len(scored.absent) == 60
    assert scored.boxes == scored.detections > 200
    assert 0.3 < score_detections(half, truth, **lists).mean < 0.7


def test_boxes_near_the_real_ones_score_as_the_evaluator_says(
    real_videos: Path, tmp_path: Path
) -> None:
    """0.7727...: of ``ava_eval`` in MMAction2 1.2.0, which is ActivityNet's, on this very file."""
    folder = real_videos / "annotations"
    truth = folder / "ava/ava_val_v2.1.head.csv"
    actions = folder / "severe/ava/ava_action_list_v2.1_for_activitynet_2018.pbtxt.txt"
    generator = np.random.default_rng(0)
    lines = []
    for row in truth.read_text().split() * 2:
        movie, second, *corners, action, _ = row.split(",")
        moved = np.array(corners, dtype=np.float64) + generator.normal(0, 0.05, 4)
        if (moved[2:] > moved[:2]).all():
            score = generator.random()
            lines.append(f"{movie},{second},{','.join(map(str, moved))},{action},{score}")
    found = write(tmp_path / "found.csv", *lines)

    scored = score_detections(found, truth, actions=actions)

    assert scored.mean == pytest.approx(0.772752339677186, abs=1e-12)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"A,902,{LEFT},3", r"found.csv is not a CSV .*score: .*Row #2: Expected 8 columns, got 7"),
        (f"A,902,{LEFT},3,high", r"Row #2: CSV conversion error to double: invalid value 'high'"),
        (f"A,902,{LEFT},3,nan", r"found.csv has a corner or a score that is no finite number"),
        (f"A,902,{LEFT},,0.5", r"Row #2: CSV conversion error to int32: invalid value ''"),
    ],
)
def test_a_malformed_detection_is_named(
    tmp_path: Path, truth: Path, line: str, message: str
) -> None:
    found = write(tmp_path / "found.csv", f"A,902,{LEFT},3,0.9", line)

    with pytest.raises(ConfigError, match=message):
        score_detections(found, truth)


def test_files_that_say_nothing_are_refused(tmp_path: Path, truth: Path) -> None:
    found = write(tmp_path / "found.csv", f"A,902,{LEFT},3,0.9")

    with pytest.raises(MissingInputError, match=r"none.csv cannot be read \(No such file"):
        score_detections(tmp_path / "none.csv", truth)
    with pytest.raises(ConfigError, match=r"truth.csv lists no action: give one of AVA's lists"):
        score_detections(found, truth, actions=truth)
    with pytest.raises(ConfigError, match=r"truth.csv has no box left to be found"):
        score_detections(found, truth, excluded=write(tmp_path / "out.csv", "A,902", "B,902"))
