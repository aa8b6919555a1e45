"""One set-up of logging per process: text for people on stderr, JSON lines for tools in a file."""

import copy
import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

# Libraries that report their own doings at INFO; what they warn of is kept.
_NOISY = (
    "alembic",
    "boto3",
    "botocore",
    "deepspeed",
    "DeepSpeed",
    "mlflow",
    "PIL",
    "ray",
    "s3transfer",
    "submitit",
    "urllib3",
)


def configure_logging(
    rank: int = 0, json_path: Path | None = None, level: int = logging.INFO
) -> None:
    """Sends all log records to stderr and, if wanted, to a file; calling it again starts over.

    Args:
        rank: of this process in its job; others than rank 0 show only warnings on stderr.
        json_path: gets one JSON object per record from ``level`` on, whatever the rank; appended.
        level: of rank 0 on stderr, and of the file.
    """
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(level if rank == 0 else max(level, logging.WARNING))
    console.setFormatter(_TextFormatter(rank))
    handlers: list[logging.Handler] = [console]
    if json_path:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(json_path, encoding="utf-8")
        file.setFormatter(_JsonFormatter(rank))
        handlers.append(file)
    # force: handlers that a library has installed on the root logger would show every line twice
    logging.basicConfig(level=level, handlers=handlers, force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


class _TextFormatter(logging.Formatter):
    """``16:23:05 rank 0 INFO jobs.train: resumed at step 300``."""

    def __init__(self, rank: int) -> None:
        super().__init__(f"%(asctime)s rank {rank} %(levelname)s %(name)s: %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Leaves the package's name out: nearly every line would begin with it."""
        shown = copy.copy(record)
        shown.name = record.name.removeprefix("sigma_pipeline.")
        return super().formatMessage(shown)


class _JsonFormatter(logging.Formatter):
    """One JSON object per record, with the time in UTC."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "rank": self._rank,
            "level": record.levelname,
            "module": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)
