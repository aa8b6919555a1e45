"""A job's log is relayed line by line, each line once."""

from pathlib import Path

import pytest

from sigma_pipeline.pipeline import log_tail
from sigma_pipeline.pipeline.log_tail import LogTail


def test_each_whole_line_is_shown_once(tmp_path: Path) -> None:
    path, shown = tmp_path / "log", list[str]()
    tail = LogTail(path, shown.append)

    tail.show_new()
    path.write_text("one\ntw")
    tail.show_new()
    with path.open("a") as file:
        file.write("o\nthree\n")
    tail.show_new()
    tail.show_new()

    assert shown == ["one", "two", "three"]


@pytest.mark.parametrize("block_bytes", [1, 7, 1000])
@pytest.mark.parametrize(("num_lines", "expected"), [(0, []), (2, ["9", "10"]), (50, None)])
def test_the_last_lines_are_shown_and_then_those_that_come(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    block_bytes: int,
    num_lines: int,
    expected: list[str] | None,
) -> None:
    monkeypatch.setattr(log_tail, "_BLOCK_BYTES", block_bytes)
    path, shown = tmp_path / "log", list[str]()
    path.write_text("".join(f"{number}\n" for number in range(1, 11)) + "1")
    tail = LogTail(path, shown.append)

    tail.show_last(num_lines)
    with path.open("a") as file:
        file.write("1\n")
    tail.show_new()

    assert shown == [*([str(n) for n in range(1, 11)] if expected is None else expected), "11"]


def test_a_file_that_begins_anew_is_shown_from_its_start(tmp_path: Path) -> None:
    path, shown = tmp_path / "log", list[str]()
    tail = LogTail(path, shown.append)

    path.write_text("of the first life\n")
    tail.show_new()
    path.write_text("second\n")
    tail.show_new()

    assert shown == ["of the first life", "second"]


def test_what_would_steer_the_terminal_is_left_out(tmp_path: Path) -> None:
    path, shown = tmp_path / "log", list[str]()
    path.write_bytes(b"\x1b[2J\x1b]0;title\x07a\tb\x1b[1;31mred\x1b[0m\x08\r\x9b\xc3\xa9\n")

    LogTail(path, shown.append).show_new()

    assert shown == ["a\tbred\ufffd\u00e9"]
