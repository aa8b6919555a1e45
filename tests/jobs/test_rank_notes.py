"""Notes between ranks arrive, or it is known that they do not."""

import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from sigma_pipeline.jobs import rank_notes
from sigma_pipeline.jobs.rank_notes import RankNotes, StoreSilent


def test_notes_are_read_by_rank_and_the_absent_are_left_out(tmp_path: Path) -> None:
    store = dist.FileStore(str(tmp_path / "store"), 3)
    RankNotes(store, "beat").put(0, {"step": 1})
    RankNotes(store, "beat").put(2, {"step": 7})
    RankNotes(store, "other").put(1, {"step": 9})

    assert RankNotes(store, "beat").read(range(3)) == {0: {"step": 1}, 2: {"step": 7}}


def test_a_note_that_comes_later_is_waited_for() -> None:
    store = dist.HashStore()
    timer = threading.Timer(0.1, lambda: RankNotes(store, "beat").put(1, {}))
    timer.start()

    assert RankNotes(store, "beat").read([1], wait_s=10) == {1: {}}


class FrozenStore:
    """As a TCPStore whose server was stopped: takes what it is given, and never answers."""

    def check(self, _keys: list[str]) -> bool:
        """Not in time."""
        time.sleep(5)
        return False


def test_a_store_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_notes, "_GRACE_S", 0.1)
    store: Any = FrozenStore()

    with pytest.raises(StoreSilent, match="no answer in time"):
        RankNotes(store, "beat").read([0])


def test_a_store_that_has_gone_is_silent_too() -> None:
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    timeout = timedelta(seconds=2)
    notes = RankNotes(dist.TCPStore("127.0.0.1", server.port, timeout=timeout), "beat")
    notes.put(0, {})
    del server

    with pytest.raises(StoreSilent):
        notes.read([0])
