"""The journal while the store hangs or is down: nobody waits for it, and no number is lost."""

import logging
import threading
import time
from dataclasses import dataclass

import pytest

from sigma_pipeline.infra import journal
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import Journal, read_entries
from sigma_pipeline.infra.storage import LocalStorage, Storage


@dataclass(frozen=True)
class UnreliableStorage(LocalStorage):
    """Fails to write while its file ``down`` is there."""

    def write_if_absent(self, key: str, data: bytes) -> bool:
        """See ``Storage``."""
        self._check()
        return super().write_if_absent(key, data)

    def write(self, key: str, data: bytes) -> None:
        """See ``Storage``."""
        self._check()
        super().write(key, data)

    def _check(self) -> None:
        if self.exists("down"):
            raise StageError("the store is down")


class Hanging:
    """While it is entered, whoever passes it waits."""

    def __init__(self) -> None:
        self.num_waiting = 0
        self._is_open = threading.Event()
        self._is_open.set()

    def __enter__(self) -> None:
        """Closes the way."""
        self._is_open.clear()

    def __exit__(self, *_: object) -> None:
        """Opens it."""
        self._is_open.set()

    def pass_it(self) -> None:
        """Waits until the way is open."""
        self.num_waiting += 1
        assert self._is_open.wait(60)


HANGING = Hanging()


@dataclass(frozen=True)
class HangingStorage(LocalStorage):
    """Answers no write while ``HANGING`` is entered."""

    def write_if_absent(self, key: str, data: bytes) -> bool:
        """See ``Storage``."""
        HANGING.pass_it()
        return super().write_if_absent(key, data)


def _wait(pen: Journal) -> None:
    """Until what is due has been flushed."""
    if pen._flusher is not None:
        pen._flusher.join()


def _steps(storage: Storage) -> list[int]:
    entries, _ = read_entries(storage, "demo")
    return [entry.fields["step"] for entry in entries]


def test_a_store_that_hangs_holds_nobody_up_who_writes(local_storage: LocalStorage) -> None:
    pen = Journal(HangingStorage(local_storage.root_uri), "demo", "a1", "train")
    pen.metrics(1, {"train/loss": 1.0})
    flusher = threading.Thread(target=pen.flush)
    with HANGING:
        flusher.start()
        while not HANGING.num_waiting:
            time.sleep(0.001)
        pen.metrics(2, {"train/loss": 1.0})
    flusher.join()
    pen.close()

    assert _steps(local_storage) == [1, 2]


def test_a_store_that_is_down_for_a_while_neither_stops_the_job_nor_loses_a_number(
    local_storage: LocalStorage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(journal, "_FLUSH_INTERVAL_S", 0.0)
    storage = UnreliableStorage(local_storage.root_uri)
    pen = Journal(storage, "demo", "a1", "train")

    with caplog.at_level(logging.WARNING):
        pen.metrics(1, {"train/loss": 1.0})
        _wait(pen)
        local_storage.write("down", b"")
        for step in (2, 3):
            pen.metrics(step, {"train/loss": 1.0})
            _wait(pen)
        with pytest.raises(StageError, match="down"):
            pen.flush()
        local_storage.delete("down")
        pen.metrics(4, {"train/loss": 1.0})
        _wait(pen)

    assert _steps(storage) == [1, 2, 3, 4]
    assert caplog.text.count("Journal not written") == 1
