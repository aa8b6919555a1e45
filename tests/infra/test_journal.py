"""The journal keeps every number through kills, restarts, and failures of the store."""

import json
import math
import threading

import pytest

from sigma_pipeline.infra import journal
from sigma_pipeline.infra.journal import Entry, Journal, last_metrics, read_entries
from sigma_pipeline.infra.storage import LocalStorage, Storage

_FOLDER = "runs/demo/journal"


def _wait(pen: Journal) -> None:
    """Until what is due has been flushed."""
    if pen._flusher is not None:
        pen._flusher.join()


def _steps(entries: list[Entry]) -> list[int]:
    return [entry.fields["step"] for entry in entries]


def _write_steps(storage: Storage, attempt: str, steps: range) -> None:
    pen = Journal(storage, "demo", attempt, "train")
    for step in steps:
        pen.metrics(step, {"train/loss": float(step)})
        _wait(pen)
    pen.close()


def test_every_kind_of_entry_comes_back_as_it_was_written(storage: Storage) -> None:
    pen = Journal(storage, "demo", "a1", "train")
    pen.metrics(3, {"train/loss": 0.5})
    pen.parameters({"seed": "0"})
    pen.tags({"host": "node1"})
    pen.artifact("recipe/config.yaml", "runs/demo/config.yaml")
    pen.picture("train/masks", 3, "runs/demo/masks.png")
    pen.dataset("demo", "train", "v1", "abc", "/data/demo")
    pen.close()

    entries, _ = read_entries(storage, "demo")

    assert [(entry.kind, dict(entry.fields)) for entry in entries] == [
        ("metrics", {"step": 3, "values": {"train/loss": 0.5}}),
        ("parameters", {"values": {"seed": "0"}}),
        ("tags", {"values": {"host": "node1"}}),
        ("artifact", {"name": "recipe/config.yaml", "key": "runs/demo/config.yaml"}),
        ("picture", {"name": "train/masks", "step": 3, "key": "runs/demo/masks.png"}),
        (
            "dataset",
            {
                "name": "demo",
                "split": "train",
                "version": "v1",
                "root_hash": "abc",
                "uri": "/data/demo",
            },
        ),
    ]
    assert {entry.attempt for entry in entries} == {"a1"}


def test_a_run_without_a_journal_has_no_entries(local_storage: LocalStorage) -> None:
    assert read_entries(local_storage, "demo") == ([], {})


def test_non_finite_numbers_survive_and_any_json_reader_can_read_them(
    local_storage: LocalStorage,
) -> None:
    pen = Journal(local_storage, "demo", "a1", "train")
    pen.metrics(1, {"nan": math.nan, "up": math.inf, "down": -math.inf, "whole": 2})
    pen.close()

    lines = local_storage.read(f"{_FOLDER}/a1-00001.jsonl").splitlines()
    values = read_entries(local_storage, "demo")[0][0].fields["values"]

    assert json.loads(lines[1])["values"] == {"nan": "nan", "up": "inf", "down": "-inf", "whole": 2}
    assert math.isnan(values.pop("nan"))
    assert values == {"up": math.inf, "down": -math.inf, "whole": 2.0}


def test_a_killed_writer_loses_only_what_came_after_its_last_flush(
    local_storage: LocalStorage,
) -> None:
    pen = Journal(local_storage, "demo", "a1", "train")
    pen.metrics(1, {"train/loss": 1.0})
    pen.flush()
    pen.metrics(2, {"train/loss": 1.0})

    assert _steps(read_entries(local_storage, "demo")[0]) == [1]


def test_entries_are_flushed_by_time_without_being_asked_for(
    local_storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    pen = Journal(local_storage, "demo", "a1", "train")
    pen.metrics(1, {"train/loss": 1.0})
    monkeypatch.setattr(journal, "_FLUSH_INTERVAL_S", 0.0)
    pen.metrics(2, {"train/loss": 1.0})
    _wait(pen)

    assert _steps(read_entries(local_storage, "demo")[0]) == [1, 2]


def test_a_half_written_last_line_is_left_for_the_next_reading(
    local_storage: LocalStorage,
) -> None:
    _write_steps(local_storage, "a1", range(2))
    key = f"{_FOLDER}/a1-00001.jsonl"
    data = local_storage.read(key).replace(b'{"kind":"end"}\n', b"")
    local_storage.write(key, data[:-5])

    first, position = read_entries(local_storage, "demo")
    local_storage.write(key, data)
    second, _ = read_entries(local_storage, "demo", after=position)

    assert _steps(first) == [0]
    assert _steps(second) == [1]


@pytest.mark.parametrize(
    "garbage", [b"\x00\xff\n", b"5\n", b'{"kind":"metrics","values":{}}\n', b"\n"]
)
def test_a_damaged_line_is_skipped_with_a_warning(
    local_storage: LocalStorage, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    _write_steps(local_storage, "a1", range(2))
    key = f"{_FOLDER}/a1-00001.jsonl"
    local_storage.write(key, garbage + local_storage.read(key))

    entries, _ = read_entries(local_storage, "demo")

    assert _steps(entries) == [0, 1]
    assert "cannot be read and is skipped" in caplog.text


def test_attempts_are_read_in_the_order_in_which_they_began(local_storage: LocalStorage) -> None:
    _write_steps(local_storage, "20260102T000000-b", range(2, 4))
    _write_steps(local_storage, "20260101T000000-c", range(3))

    entries, _ = read_entries(local_storage, "demo")

    assert _steps(entries) == [0, 1, 2, 2, 3]


def test_reading_on_gives_each_entry_once(storage: Storage) -> None:
    pen = Journal(storage, "demo", "a1", "train")
    pen.metrics(1, {"train/loss": 1.0})
    pen.flush()
    first, position = read_entries(storage, "demo")
    pen.metrics(2, {"train/loss": 1.0})
    pen.flush()
    _write_steps(storage, "a2", range(3, 4))

    second, position = read_entries(storage, "demo", after=position)
    third, _ = read_entries(storage, "demo", after=position)

    assert [_steps(first), _steps(second), _steps(third)] == [[1], [2, 3], []]


def test_a_segment_that_has_grown_is_closed_and_never_read_again(
    local_storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_SEGMENT_BYTES", 300)
    pen = Journal(local_storage, "demo", "a1", "train")
    for step in range(12):
        pen.metrics(step, {"train/loss": 1.0})
        pen.flush()
    keys = local_storage.list(_FOLDER)

    entries, position = read_entries(local_storage, "demo")
    local_storage.write(keys[0], b"")
    again, _ = read_entries(local_storage, "demo", after=position)

    assert len(keys) > 2
    assert _steps(entries) == list(range(12))
    assert again == []


def test_two_pens_of_one_attempt_do_not_overwrite_each_other(storage: Storage) -> None:
    first = Journal(storage, "demo", "a1", "shard")
    second = Journal(storage, "demo", "a1", "train")
    first.metrics(0, {"shard/samples": 9})
    second.metrics(1, {"train/loss": 1.0})
    first.close()
    second.close()

    assert sorted(_steps(read_entries(storage, "demo")[0])) == [0, 1]


def test_closing_twice_or_without_entries_writes_nothing_more(local_storage: LocalStorage) -> None:
    pen = Journal(local_storage, "demo", "a1", "train")
    pen.close()
    pen.metrics(1, {"train/loss": 1.0})
    pen.close()
    pen.close()

    assert local_storage.list("") == [f"{_FOLDER}/a1-00001.jsonl"]


def test_entries_from_many_threads_all_arrive(
    local_storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_FLUSH_INTERVAL_S", 0.01)
    pen = Journal(local_storage, "demo", "a1", "train")

    def write(thread: int) -> None:
        for number in range(100):
            pen.metrics(thread * 100 + number, {"train/loss": 1.0})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pen.close()

    assert sorted(_steps(read_entries(local_storage, "demo")[0])) == list(range(800))


def test_the_end_of_an_attempt_is_read_without_what_lies_before(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_steps(storage, "a1", range(3))
    monkeypatch.setattr(journal, "_SEGMENT_BYTES", 1)
    monkeypatch.setattr(journal, "_FLUSH_INTERVAL_S", 0.0)
    _write_steps(storage, "a2", range(3, 10))
    Journal(storage, "demo", "a3", "train").close()

    assert _steps(last_metrics(storage, "demo", ["a3", "a2", "a1"])) == [8, 9]
    assert _steps(last_metrics(storage, "demo", ["a1"])) == [0, 1, 2]
    assert last_metrics(storage, "demo", ["a3", "a"]) == []
