"""Reading files that were listed."""

from dataclasses import replace
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.source_bytes import read_source
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.verdicts import Rejected
from sigma_pipeline.infra.errors import StageError


@pytest.fixture
def file(tmp_path: Path) -> SourceFile:
    (tmp_path / "a.jpg").write_bytes(b"content")
    return SourceFile(str(tmp_path / "a.jpg"), "x/a.jpg", 7)


def test_the_content_of_a_listed_file_is_read(file: SourceFile) -> None:
    assert read_source(file) == b"content"


def test_a_file_that_changed_or_went_stops_the_stage(file: SourceFile) -> None:
    with pytest.raises(StageError, match=r"a\.jpg' has 7 bytes instead of 8.*run the same command"):
        read_source(replace(file, size=8))

    Path(file.path).unlink()
    with pytest.raises(StageError, match=r"a\.jpg' is gone"):
        read_source(file)


def test_what_cannot_be_read_is_rejected_and_may_be_tried_again(
    file: SourceFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)

    with pytest.raises(Rejected, match=r"unreadable: x/a\.jpg cannot be read: Input") as caught:
        read_source(file)
    assert caught.value.is_retryable


def test_a_folder_in_its_place_will_not_do_better(file: SourceFile, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="unreadable") as caught:
        read_source(replace(file, path=str(tmp_path)))
    assert not caught.value.is_retryable
