"""Looking up files by what lists call them."""

from pathlib import Path

from sigma_pipeline.data_prep.source_files import SourceFiles
from sigma_pipeline.data_prep.source_tree import SourceFile


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def name(file: SourceFile | None) -> str | None:
    return file.name if file else None


def deeper(files: SourceFiles, path: str) -> list[str]:
    return [file.name for file in files.find_deeper(path)]


def test_a_path_is_found_with_or_without_or_with_another_suffix(tmp_path: Path) -> None:
    files = SourceFiles([touch(tmp_path, "a/1.mp4", "a/2.x.avi")])

    assert name(files.find("a/1.mp4")) == "a/1.mp4"
    assert name(files.find("./a/1.mp4")) == "a/1.mp4"
    assert name(files.find("a/1")) == "a/1.mp4"
    assert name(files.find("a/1.AVI")) == "a/1.mp4"
    assert name(files.find("a/2.x")) == "a/2.x.avi"
    assert files.find("a/2") is None
    assert files.find("1.mp4") is None


def test_the_listed_suffix_goes_before_the_first_other_one(tmp_path: Path) -> None:
    files = SourceFiles([touch(tmp_path, "1.avi", "1.mp4", "1.txt")])

    assert name(files.find("1.mp4")) == "1.mp4"
    assert name(files.find("1.webm")) == "1.avi"
    assert name(files.find("1")) == "1.avi"


def test_an_absolute_path_is_found_below_the_root_or_by_its_longest_tail(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", "a/1.mp4", "b/a/1.mp4", "2.mp4")
    files = SourceFiles([root])

    assert name(files.find(f"{root}/a/1.mp4")) == "a/1.mp4"
    assert name(files.find("/other/place/b/a/1.mp4")) == "b/a/1.mp4"
    assert name(files.find("/other/place/c/a/1.avi")) == "a/1.mp4"
    assert name(files.find("/other/2.mp4")) == "2.mp4"
    assert files.find("/other/1.mp4") is None


def test_nothing_outside_of_the_roots_is_found(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", "1.mp4")
    touch(tmp_path, "secret.mp4")
    files = SourceFiles([root])

    for path in ("../secret.mp4", f"{tmp_path}/secret.mp4", "/etc/passwd", "1.mp4/../1.mp4"):
        assert files.find_deeper(path) == ()


def test_a_unique_name_is_found_deeper(tmp_path: Path) -> None:
    files = SourceFiles([touch(tmp_path, "x/y/74.webm", "x/c/75.webm", "x/d/75.webm")])

    assert deeper(files, "74") == ["x/y/74.webm"]
    assert deeper(files, "y/74.mp4") == ["x/y/74.webm"]
    assert deeper(files, "z/74") == []
    assert deeper(files, "75") == ["x/c/75.webm", "x/d/75.webm"]
    assert deeper(files, "d/75") == ["x/d/75.webm"]
    assert deeper(files, "/other/d/75.avi") == ["x/d/75.webm"]


def test_of_equal_names_the_one_with_the_listed_suffix_is_meant(tmp_path: Path) -> None:
    files = SourceFiles([touch(tmp_path, "avi/7.avi", "webm/7.webm")])

    assert deeper(files, "7.webm") == ["webm/7.webm"]


def test_several_roots_are_told_apart_by_prefixes(tmp_path: Path) -> None:
    one = touch(tmp_path / "one", "a.mp4", "c.mp4")
    two = touch(tmp_path / "two", "b.mp4", "c.mp4")
    files = SourceFiles([one, two])

    assert name(files.find("b")) == "two/b.mp4"
    assert name(files.find("c.mp4")) == "one/c.mp4"
    assert name(files.find("two/c.mp4")) == "two/c.mp4"
    assert name(files.find(f"{two}/c.mp4")) == "two/c.mp4"
    assert {file.name for file in files} == {"one/a.mp4", "one/c.mp4", "two/b.mp4", "two/c.mp4"}


def test_folders_give_their_own_files_in_order(tmp_path: Path) -> None:
    files = SourceFiles([touch(tmp_path, "s/00001.jpg", "s/00000.jpg", "s/t/0.jpg", "top.txt")])

    assert [file.name for file in files.in_folder("s")] == ["s/00000.jpg", "s/00001.jpg"]
    assert files.in_folder("none") == ()
