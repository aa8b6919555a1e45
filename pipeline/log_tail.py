"""What a job on another process or node logs, shown to the person who waits for it."""

import re
from collections.abc import Callable
from pathlib import Path

_BLOCK_BYTES = 64 << 10
_SEQUENCE = r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"
_NOT_SHOWN = re.compile(rf"{_SEQUENCE}|[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class LogTail:
    """The lines of a growing file; each is shown once, without what would steer a terminal."""

    def __init__(self, path: Path, show: Callable[[str], None]) -> None:
        self._path = path
        self._show = show
        self._position = 0

    def show_last(self, num_lines: int) -> None:
        """Shows the last whole lines of what is there now; ``show_new`` goes on after them."""
        data, start = b"", self._size()
        while start > 0 and data.count(b"\n") <= num_lines:
            length = min(_BLOCK_BYTES, start)
            start -= length
            data = self._read(start, length) + data
        self._position = start + self._show_lines(data, num_lines)

    def show_new(self) -> None:
        """Shows the whole lines written since the last call; a missing file has none yet."""
        if self._size() < self._position:  # begun anew by the job's next life
            self._position = 0
        self._position += self._show_lines(self._read(self._position))

    def _show_lines(self, data: bytes, num_lines: int | None = None) -> int:
        """Shows whole lines, the last ``num_lines`` or all; returns the bytes up to their end."""
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.decode(errors="replace").split("\n")[:-1]
        for line in lines if num_lines is None else lines[max(0, len(lines) - num_lines) :]:
            self._show(_NOT_SHOWN.sub("", line))
        return len(whole)

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def _read(self, start: int, length: int = -1) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                return file.read(length)
        except FileNotFoundError:
            return b""
