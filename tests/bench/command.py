"""Commands whose output is kept in a file."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

_LINES_TOLD = 15


def run_logged(command: Sequence[str], log: Path) -> None:
    """Runs ``command`` to its end.

    Raises:
        SystemExit: it failed; has the end of what it wrote.
    """
    with log.open("w") as output:
        status = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
    require_success(status, command, log)


def require_success(status: int, command: Sequence[str], log: Path) -> None:
    """Nothing, if ``status`` is 0.

    Raises:
        SystemExit: it is another; has the end of ``log``, whose folder goes away.
    """
    if status:
        end = "\n".join(log.read_text().splitlines()[-_LINES_TOLD:])
        raise SystemExit(f"{' '.join(command)} ended with status {status}:\n{end}")
