"""``benchmarks``: the list, and scoring folders of masks, good ones and bad ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sigma_pipeline.pipeline.cli import cli
from tests.mask_folders import two_objects, write_sequence


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """Two annotated sequences, both in the validation set."""
    for name in ("bear", "cows"):
        write_sequence(tmp_path / "DAVIS/Annotations/480p" / name, two_objects())
    (tmp_path / "DAVIS/ImageSets/2017").mkdir(parents=True)
    (tmp_path / "DAVIS/ImageSets/2017/val.txt").write_text("bear\ncows\n")
    return tmp_path / "DAVIS"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of both: perfect ones, and ones without object 2."""
    ids = two_objects() % 255
    write_sequence(tmp_path / "results/bear", ids)
    write_sequence(tmp_path / "results/cows", np.where(ids == 2, 0, ids).astype(np.uint8))
    return tmp_path / "results"


def davis_score(results: Path, davis: Path, *more: str) -> Result:
    words = ["benchmarks", "davis-score", "--results", str(results), "--davis", str(davis), *more]
    return CliRunner().invoke(cli, words)


def uvos_score(maps: Path, davis: Path, *more: str) -> Result:
    words = ["benchmarks", "uvos-score", "--predictions", str(maps), "--davis", str(davis), *more]
    return CliRunner().invoke(cli, words)


def test_j_and_f_are_printed_and_written(davis: Path, results: Path, tmp_path: Path) -> None:
    result = davis_score(results, davis, "--output", str(tmp_path / "out/tables"))

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "J&F-Mean  J-Mean  J-Recall  J-Decay  F-Mean  F-Recall  F-Decay",
        "  0.7500  0.7500    0.7500   0.0000  0.7500    0.7500   0.0000",
        "",
        "Sequence  J-Mean  F-Mean",
        "bear_1    1.0000  1.0000",
        "bear_2    1.0000  1.0000",
        "cows_1    1.0000  1.0000",
        "cows_2    0.0000  0.0000",
        "",
        f"Written into {tmp_path}/out/tables: global_results-val.csv, per-sequence_results-val.csv",
    ]
    tables = sorted((tmp_path / "out/tables").iterdir())
    assert tables[0].read_text().splitlines()[1].startswith("0.7500,0.7500,")
    assert tables[1].read_text().splitlines()[-1] == "cows_2,0.0000,0.0000"


def test_miou_is_printed(davis: Path, results: Path) -> None:
    result = uvos_score(results, davis, "--set", "val")
    with_void = uvos_score(results, davis, "--matching", "many-to-one", "--void-as-class")

    assert result.exit_code == 0, result.output
    assert f"Annotations: {davis}/Annotations/480p" in result.stdout
    assert "bear      1.0000       5        3         3" in result.stdout
    # Void is a fourth object, in the background's cluster: (600 / 632 + 1 + 1 + 0) / 4.
    assert "bear      0.7373       5        4         3" in with_void.stdout


def test_published_masks_get_their_published_scores(real_videos: Path) -> None:
    davis = real_videos / "vos" / "DAVIS"

    result = davis_score(davis / "Results" / "osvos", davis)

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-2:] == ["blackswan_1   0.9430  0.9741", "car-shadow_1  0.9284  0.9174"]
    assert "Annotated, but without results: dog-agility." in lines
    assert any("255 is the object: blackswan, car-shadow." in line for line in lines)


def truncate(results: Path) -> None:
    path = results / "bear/00002.png"
    path.write_bytes(path.read_bytes()[:-40])


def take_a_frame(results: Path) -> None:
    (results / "cows/00001.png").unlink()


def take_a_sequence(results: Path) -> None:
    (results / "cows").rename(results.parent / "cows")


def empty_a_sequence(results: Path) -> None:
    for path in (results / "cows").iterdir():
        path.unlink()


def shrink(results: Path) -> None:
    write_sequence(results / "cows", two_objects(shape=(24, 30)) % 255)


def move_away(results: Path) -> None:
    results.rename(results.parent / "elsewhere")


@pytest.mark.parametrize(
    ("harm", "exit_status", "message"),
    [
        (truncate, 2, "bear/00002.png is no whole PNG picture"),
        (take_a_frame, 3, "cows/00001.png is missing: 1 of 3 frames"),
        (take_a_sequence, 3, "holds no folder cows, 1 of 2 sequences to score; choose others"),
        (empty_a_sequence, 3, "cows holds no PNG files"),
        (shrink, 2, "cows/00001.png is 30 x 24, its sequence 32 x 24"),
        (move_away, 3, "results is no folder: it must hold one per sequence"),
    ],
)
def test_bad_results_end_in_one_sentence(
    davis: Path, results: Path, harm: Callable[[Path], None], exit_status: int, message: str
) -> None:
    harm(results)

    result = davis_score(results, davis)

    assert result.exit_code == exit_status, result.output
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not result.stdout


def test_tables_that_cannot_be_written_are_said_after_the_scores(
    davis: Path, results: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    result = davis_score(results, davis, "--output", str(tmp_path / "file"))

    assert result.exit_code == 2
    assert "cows_2" in result.stdout
    assert "file cannot be written to (File exists): name another --output" in result.stderr


def test_the_list_names_all_benchmarks_and_what_the_recipe_has(recipe_path: str) -> None:
    result = CliRunner().invoke(cli, ["benchmarks", "--config", recipe_path])

    assert result.exit_code == 0, result.output
    assert "uvos" in result.stdout
    assert "object masks" in result.stdout
    assert "not sharded: make it with: sigma-pipeline run --stage shard" in result.stdout


def test_a_recipe_is_refused_where_none_is_read(davis: Path, results: Path) -> None:
    words = ["benchmarks", "--config", "demo", "davis-score"]
    words += ["--results", str(results), "--davis", str(davis)]

    result = CliRunner().invoke(cli, words)

    assert result.exit_code == 2
    assert "leave them out for benchmarks davis-score" in result.stderr


def test_frame_map_is_printed_with_the_actions_and_remarks(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("A,0902,0,0,1,1,12,0\nA,0903,0,0,1,1,4,0\n")
    (tmp_path / "found.csv").write_text("A,902,0,0,1,1,12,0.9\nB,902,0,0,1,1,12,0.8\n")
    names = ["--detections", "found.csv", "--truth", "truth.csv"]
    words = [word if word.startswith("--") else str(tmp_path / word) for word in names]

    result = CliRunner().invoke(cli, ["benchmarks", "ava-score", *words, "--at-most", "50"])

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "1 of 2 detections are in movies that the truth does not have; each counts as a mistake.",
        "",
        "   mAP  Actions  Frames  Boxes  Detections",
        "0.5000        2       2      2           2",
        "",
        "Action         AP",
        "action 4   0.0000",
        "action 12  1.0000",
    ]
