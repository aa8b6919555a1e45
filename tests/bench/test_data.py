"""The command of ``make bench-data``."""

from pathlib import Path

import pytest

from tests.bench.data import PARTS, _options


def test_all_parts_are_measured_when_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "SOURCES.csv").touch()

    assert _options(["--data", str(tmp_path)]).parts == list(PARTS)
    assert _options(["--data", str(tmp_path), PARTS[0]]).parts == [PARTS[0]]


def test_a_part_that_there_is_not_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "SOURCES.csv").touch()

    with pytest.raises(SystemExit):
        _options(["--data", str(tmp_path), "tapes"])

    assert "no part tapes; there are shards, clips" in capsys.readouterr().err
