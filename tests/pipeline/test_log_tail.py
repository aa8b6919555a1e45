"""A job's log is relayed line by line, each line once."""

from pathlib import Path

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
