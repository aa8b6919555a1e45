"""What a job on another process or node logs, shown to the person who waits for it."""

from collections.abc import Callable
from pathlib import Path


class LogTail:
    """The lines of a growing file; each is shown once."""

    def __init__(self, path: Path, show: Callable[[str], None]) -> None:
        self._path = path
        self._show = show
        self._position = 0

    def show_new(self) -> None:
        """Shows the whole lines written since the last call; a missing file has none yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            self._show(line)
