"""Which sequences of DAVIS a result is scored on."""

from pathlib import Path

import pytest

from sigma_pipeline.infra.errors import ConfigError, MissingInputError, PipelineError
from sigma_pipeline.jobs.davis_folder import Selection, annotations_dir, chosen_sequences


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """Three annotated sequences, no sets."""
    for name in ("bear", "cows", "dog"):
        (tmp_path / "DAVIS/Annotations/480p" / name).mkdir(parents=True)
    return tmp_path / "DAVIS"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two of these have results."""
    for name in ("bear", "dog"):
        (tmp_path / "results" / name).mkdir(parents=True)
    return tmp_path / "results"


def put_set(davis: Path, name: str, text: str) -> None:
    (davis / "ImageSets/2017").mkdir(parents=True, exist_ok=True)
    (davis / f"ImageSets/2017/{name}.txt").write_text(text)


def chosen(
    results: Path, davis: Path, *, set_name: str | None = None, list_file: Path | None = None
) -> Selection:
    annotations = annotations_dir(davis)
    return chosen_sequences(results, davis, annotations, set_name=set_name, list_file=list_file)


def test_without_a_set_what_has_results_is_scored_and_it_is_said(
    davis: Path, results: Path
) -> None:
    selection = chosen(results, davis)

    assert selection.names == ["bear", "dog"]
    assert "val.txt is not there: scored are the 2 sequences" in selection.remarks[0]
    assert selection.remarks[1] == "Annotated, but without results: cows."


def test_the_validation_set_is_taken_where_it_is_there(davis: Path, results: Path) -> None:
    put_set(davis, "val", "dog\n\n bear \n")

    assert chosen(results, davis) == Selection(["dog", "bear"])


def test_another_set_or_a_list_is_taken_on_request(
    davis: Path, results: Path, tmp_path: Path
) -> None:
    put_set(davis, "val", "cows\n")
    put_set(davis, "train", "dog\n")
    (tmp_path / "mine.txt").write_text("bear\n")

    assert chosen(results, davis, set_name="train").names == ["dog"]
    assert chosen(results, davis, list_file=tmp_path / "mine.txt").names == ["bear"]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("bear\ncows\n", MissingInputError, "results holds no folder cows, 1 of 2 sequences"),
        ("", ConfigError, "is empty: write one sequence name per line"),
        ("bear\nbear\n", ConfigError, "names a sequence twice"),
        ("../bear\n", ConfigError, "'../bear' is no name of a sequence"),
        ("..", ConfigError, r"'\.\.' is no name"),
    ],
)
def test_a_list_that_cannot_be_scored_is_refused(
    davis: Path,
    results: Path,
    tmp_path: Path,
    *,
    text: str,
    error: type[PipelineError],
    message: str,
) -> None:
    (tmp_path / "mine.txt").write_text(text)

    with pytest.raises(error, match=message):
        chosen(results, davis, list_file=tmp_path / "mine.txt")


def test_a_set_that_is_not_there_is_named(davis: Path, results: Path) -> None:
    with pytest.raises(MissingInputError, match=r"2017/test\.txt cannot be read .No such file"):
        chosen(results, davis, set_name="test")
    with pytest.raises(ConfigError, match="exclude each other"):
        chosen(results, davis, set_name="val", list_file=Path("mine.txt"))


def test_results_without_annotations_are_refused(davis: Path, results: Path) -> None:
    (results / "zebra").mkdir()

    with pytest.raises(MissingInputError, match="480p does not have zebra, 1 of 3 sequences"):
        chosen(results, davis)


def test_a_folder_that_is_not_davis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="has no Annotations/480p: name the folder"):
        annotations_dir(tmp_path)


def test_annotations_of_the_unsupervised_task_come_first_for_it(davis: Path) -> None:
    assert annotations_dir(davis, unsupervised=True) == davis / "Annotations/480p"
    (davis / "Annotations_unsupervised/480p").mkdir(parents=True)

    assert annotations_dir(davis, unsupervised=True) == davis / "Annotations_unsupervised/480p"
    assert annotations_dir(davis) == davis / "Annotations/480p"
