"""Who sees which log line."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigma_pipeline.infra.logs import configure_logging

log = logging.getLogger("sigma_pipeline.jobs.train")


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_rank_zero_shows_facts_and_other_ranks_only_warnings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for rank in (0, 3):
        configure_logging(rank)
        log.info("fact")
        log.warning("trouble")

    shown = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert shown == [
        "rank 0 INFO jobs.train: fact",
        "rank 0 WARNING jobs.train: trouble",
        "rank 3 WARNING jobs.train: trouble",
    ]


def test_the_file_gets_every_record_of_every_rank_as_json(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "rank-3.jsonl"
    configure_logging(3, path)

    log.info("resumed at step %d", 300)
    try:
        raise ValueError("wrong")
    except ValueError:
        log.exception("failed")

    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["rank"], first["level"], first["module"], first["message"]) == (
        3,
        "INFO",
        "sigma_pipeline.jobs.train",
        "resumed at step 300",
    )
    assert "ValueError: wrong" in second["traceback"]


def test_setting_up_twice_shows_each_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    configure_logging()

    log.info("fact")

    assert capsys.readouterr().err.count("fact") == 1


def test_libraries_are_heard_only_when_they_warn(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()

    logging.getLogger("botocore.credentials").info("Found credentials")
    logging.getLogger("botocore.credentials").warning("expired")

    assert capsys.readouterr().err.splitlines()[0].endswith("WARNING botocore.credentials: expired")
