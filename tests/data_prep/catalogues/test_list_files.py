"""Finding and reading lists."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, parse_label
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.infra.errors import ConfigError, MissingInputError


@pytest.fixture
def lists_of(tmp_path: Path) -> Callable[..., ListFiles]:
    """Lists of the source folder itself, with these contents."""

    def make(**contents: str | bytes) -> ListFiles:
        for name, content in contents.items():
            data = content.encode() if isinstance(content, str) else content
            (tmp_path / name).write_bytes(data)
        return ListFiles(DatasetConfig(source=str(tmp_path), catalogue="table"), [tmp_path])

    return make


MakeLists = Callable[..., ListFiles]


def test_blank_lines_and_windows_ends_do_not_count_but_numbers_stay(lists_of: MakeLists) -> None:
    lists = lists_of(a="\ufeffone \r\n\r\n  two\n")

    assert list(lists.lines("a", "splits.train")) == [("a:1", "one"), ("a:3", "  two")]


def test_bytes_that_are_no_text_come_as_in_names_of_files(lists_of: MakeLists) -> None:
    (line,) = lists_of(a=b"caf\xe9.mp4\n").lines("a", "splits.train")

    assert line.text == "caf\udce9.mp4"


def test_rows_resolve_quotes(lists_of: MakeLists) -> None:
    rows = list(lists_of(a='x,"a, b",1\n\n"two\nlines",2\n').rows("a", "splits.train"))

    assert rows == [("a:1", ["x", "a, b", "1"]), ("a:4", ["two\nlines", "2"])]


def test_a_quote_without_end_is_shown_with_its_line(lists_of: MakeLists) -> None:
    lists = lists_of(a='x,1\n"' + "y" * 200_000)

    with pytest.raises(ConfigError, match=r"a:2: field larger"):
        list(lists.rows("a", "splits.train"))


def test_elements_of_a_json_list_know_their_line(lists_of: MakeLists) -> None:
    lists = lists_of(a='[\n{"id": 1},\n\n{"id":\n 2}, "],["\n]\n')

    assert list(lists.json_items("a", "splits.train")) == [
        ("a:2", {"id": 1}),
        ("a:4", {"id": 2}),
        ("a:5", "],["),
    ]


def test_an_empty_json_list_has_no_elements(lists_of: MakeLists) -> None:
    assert list(lists_of(a=" [ ] ").json_items("a", "splits.train")) == []


@pytest.mark.parametrize(
    ("content", "reason"), [('{"a": 1}', "holds no JSON list"), ("[1, 2", "is not JSON")]
)
def test_other_json_is_refused(lists_of: MakeLists, content: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"a {reason}"):
        list(lists_of(a=content).json_items("a", "splits.train"))


def test_a_missing_list_names_its_path_and_keys(lists_of: MakeLists, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError) as caught:
        lists_of().path("none.csv", "splits.train")

    assert f"list '{tmp_path}/none.csv' is not there" in str(caught.value)
    assert "annotations" in str(caught.value)
    assert "splits.train" in str(caught.value)


def test_a_folder_is_no_list(lists_of: MakeLists, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()

    with pytest.raises(MissingInputError, match="cannot be read: Is a directory"):
        lists_of().text("sub", "splits.train")


def test_lists_lie_with_the_annotations_else_in_the_first_source_that_has_them(
    tmp_path: Path,
) -> None:
    for folder in ("one", "two", "lists"):
        (tmp_path / folder).mkdir()
    (tmp_path / "two" / "a").touch()
    (tmp_path / "lists" / "a").touch()
    roots = [tmp_path / "one", tmp_path / "two"]
    names = [str(root) for root in roots]
    beside = DatasetConfig(source=tuple(names), catalogue="table")
    apart = beside.model_copy(update={"annotations": str(tmp_path / "lists")})

    assert ListFiles(beside, roots).path("a", "splits.train") == tmp_path / "two" / "a"
    assert ListFiles(apart, roots).path("a", "splits.train") == tmp_path / "lists" / "a"


@pytest.mark.parametrize(
    ("text", "label"),
    [("0", 0), ("-1", -1), ("007", 7), ("1.0", None), ("", None), ("9" * 10, None)],
)
def test_a_label_is_a_whole_number_of_at_most_nine_digits(text: str, label: int | None) -> None:
    assert parse_label(text) == label
