"""The content of files of a source, known to be the ones that were listed."""

from pathlib import Path

from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.verdicts import Rejected
from sigma_pipeline.infra.errors import StageError


def read_source(file: SourceFile) -> bytes:
    """The content of ``file``.

    Raises:
        Rejected: it cannot be read; where that may pass, the verdict is retryable.
        StageError: it is not the file any more that was listed.
    """
    try:
        data = Path(file.path).read_bytes()
    except FileNotFoundError as error:
        raise _changed(file, "is gone") from error
    except OSError as error:
        is_retryable = not isinstance(error, PermissionError | IsADirectoryError)
        detail = f"{file.name} cannot be read: {error.strerror}"
        raise Rejected("unreadable", detail, is_retryable=is_retryable) from error
    if len(data) != file.size:
        raise _changed(file, f"has {len(data)} bytes instead of {file.size}")
    return data


def _changed(file: SourceFile, how: str) -> StageError:
    return StageError(
        f"source file {file.path!r} {how}: it changed after the stage had begun; "
        "run the same command again"
    )
