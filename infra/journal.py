"""The run's own record: every number and every reference to a file, before any tracker sees it.

Each attempt of a job appends lines to numbered segments of its own,
``runs/<run>/journal/<attempt>-00001.jsonl``. A segment grows by being put again as a whole, so a
kill loses at most the lines since the last flush. Reading resumes at a byte position per segment.
Nothing here knows MLflow; ``tracking`` brings the journal there.
"""

import json
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sigma_pipeline.infra.errors import PipelineError
from sigma_pipeline.infra.storage import Storage

log = logging.getLogger(__name__)

_FLUSH_INTERVAL_S = 2.0
_SEGMENT_BYTES = 256 << 10
_SEGMENTS_OF_AN_END = 2  # the last one may have just begun
_ENDED = -1  # the position after a segment's closing line: no need to look there again


@dataclass(frozen=True)
class Entry:
    """One line of the journal."""

    kind: str
    """``metrics``, ``parameters``, ``tags``, ``artifact``, ``picture`` or ``dataset``."""
    attempt: str
    time_ms: int
    """Milliseconds since 1970, when the entry was made."""
    fields: Mapping[str, Any]
    """The arguments of the ``Journal`` method that made the entry."""


class Journal:
    """The pen of one attempt of one job. Calls cost an append; they may come from any thread.

    What they append is brought to the store every few seconds by a thread, however slow the store.
    """

    def __init__(self, storage: Storage, run_name: str, attempt: str, stage: str) -> None:
        self._storage = storage
        self._folder = _folder(run_name)
        self._attempt = attempt
        self._stage = stage
        self._appending = threading.Lock()
        self._pending: list[dict[str, Any]] = []
        self._flushing = threading.RLock()  # held while the store is written to
        self._flusher: threading.Thread | None = None
        self._number = 1  # of the current segment, once it has begun
        self._segment = bytearray()  # its lines as they lie in the store; empty: not begun
        self._flushed_at_s = time.monotonic()
        self._is_failing = False

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers named ``stage/quantity_unit`` at an optimizer step; may be NaN or infinite."""
        self._add("metrics", step=step, values=dict(values))

    def parameters(self, values: Mapping[str, str]) -> None:
        """Facts that never change during the run; the first value given stays."""
        self._add("parameters", values=dict(values))

    def tags(self, values: Mapping[str, str]) -> None:
        """Facts that may change, as from one attempt to the next."""
        self._add("tags", values=dict(values))

    def artifact(self, name: str, key: str) -> None:
        """A file of the store to show under ``name``, such as ``recipe/config.yaml``."""
        self._add("artifact", name=name, key=key)

    def picture(self, name: str, step: int, key: str) -> None:
        """A PNG of the store, one of a series over steps."""
        self._add("picture", name=name, step=step, key=key)

    def dataset(self, name: str, split: str, version: str, root_hash: str, uri: str) -> None:
        """A dataset split that the run reads."""
        self._add("dataset", name=name, split=split, version=version, root_hash=root_hash, uri=uri)

    def flush(self) -> None:
        """Puts all entries so far where readers and later attempts find them.

        Raises:
            PipelineError, OSError: the store failed; the entries are kept for the next flush.
        """
        with self._flushing:
            self._flushed_at_s = time.monotonic()
            with self._appending:
                entries = self._pending[:]
            if not entries:
                return
            lines = b"".join(_encode(entry) for entry in entries)
            if self._segment:
                self._storage.write(self._key(), bytes(self._segment + lines))
                self._segment += lines
            else:
                self._begin_segment(lines)
            with self._appending:
                del self._pending[: len(entries)]
            if len(self._segment) >= _SEGMENT_BYTES:
                self._end_segment()

    def close(self) -> None:
        """Flushes, and tells readers that no more entries of this attempt will come."""
        with self._flushing:
            self.flush()
            if self._segment:
                self._end_segment()

    def _add(self, kind: str, **fields: Any) -> None:
        with self._appending:
            self._pending.append({"kind": kind, "time_ms": time.time_ns() // 1_000_000, **fields})
            is_due = time.monotonic() - self._flushed_at_s >= _FLUSH_INTERVAL_S
            if is_due and (self._flusher is None or not self._flusher.is_alive()):
                self._flusher = threading.Thread(
                    target=self._flush_or_wait, name="journal", daemon=True
                )
                self._flusher.start()

    def _flush_or_wait(self) -> None:
        """A short failure of the store stops nobody here; it does at the flush before a commit."""
        try:
            self.flush()
        except (PipelineError, OSError) as error:
            if not self._is_failing:
                log.warning("Journal not written, trying again later: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False

    def _begin_segment(self, lines: bytes) -> None:
        """Takes the first free number: an attempt may hold several pens, as for several stages."""
        head = {"kind": "segment", "attempt": self._attempt, "stage": self._stage}
        segment = _encode(head) + lines
        while not self._storage.write_if_absent(self._key(), segment):
            self._number += 1
        self._segment = bytearray(segment)

    def _end_segment(self) -> None:
        self._storage.write(self._key(), bytes(self._segment) + _encode({"kind": "end"}))
        self._segment = bytearray()
        self._number += 1

    def _key(self) -> str:
        return f"{self._folder}/{self._attempt}-{self._number:05d}.jsonl"


def read_entries(
    storage: Storage, run_name: str, *, after: Mapping[str, int] | None = None
) -> tuple[list[Entry], dict[str, int]]:
    """The entries of all attempts, by attempt, then in the order they were written.

    Args:
        storage: where the run lies.
        run_name: whose journal.
        after: where an earlier call ended; its entries and those before are left out.

    Returns:
        The entries, and the position to go on from. A last line that is not whole is left for the
        next call; another line that cannot be read is skipped with a warning.
    """
    positions = dict(after or {})
    entries: list[Entry] = []
    for key in storage.list(_folder(run_name)):
        start = positions.get(key, 0)
        if start == _ENDED:
            continue
        found, size, has_ended = _read_segment(storage, key, start)
        positions[key] = _ENDED if has_ended else start + size
        entries += found
    return entries, positions


def last_metrics(storage: Storage, run_name: str, attempts: Iterable[str]) -> list[Entry]:
    """The numbers written last by the first of ``attempts`` that wrote any, in their order.

    Of a long attempt that is its end: a thousand entries or so, whatever the length of the journal.
    """
    keys = storage.list(_folder(run_name))
    for attempt in attempts:
        segments = [key for key in keys if key.startswith(f"{_folder(run_name)}/{attempt}-")]
        found = [_read_segment(storage, key, 0)[0] for key in segments[-_SEGMENTS_OF_AN_END:]]
        metrics = [entry for entries in found for entry in entries if entry.kind == "metrics"]
        if metrics:
            return metrics
    return []


def _read_segment(storage: Storage, key: str, start: int) -> tuple[list[Entry], int, bool]:
    """Entries from byte ``start`` on, the bytes they take, and whether that was all."""
    data = storage.read(key, start)
    whole = data[: data.rfind(b"\n") + 1]
    lines = [_decode(line, storage.uri(key)) for line in whole.splitlines()]
    attempt = key.rpartition("/")[2].rpartition("-")[0]
    entries = [_entry(line, attempt) for line in lines if "time_ms" in line]
    return entries, len(whole), any(line.get("kind") == "end" for line in lines)


def _folder(run_name: str) -> str:
    return f"runs/{run_name}/journal"


def _encode(entry: Mapping[str, Any]) -> bytes:
    if entry["kind"] == "metrics":
        entry = {**entry, "values": {k: _to_json(v) for k, v in entry["values"].items()}}
    return (json.dumps(entry, separators=(",", ":")) + "\n").encode()


def _to_json(value: float) -> float | str:
    """JSON has no words for NaN and the infinities; as text they reach any reader."""
    number = float(value)
    return number if abs(number) < float("inf") else str(number)


def _decode(line: bytes, uri: str) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(line)
        if entry["kind"] == "metrics":
            entry["step"] = int(entry["step"])
            entry["values"] = {name: float(value) for name, value in entry["values"].items()}
    except (ValueError, TypeError, KeyError):
        log.warning("A line of %s cannot be read and is skipped: %.80r", uri, line)
        return {}
    return entry


def _entry(line: dict[str, Any], attempt: str) -> Entry:
    kind, time_ms = line.pop("kind"), line.pop("time_ms")
    return Entry(kind=kind, attempt=attempt, time_ms=time_ms, fields=line)
