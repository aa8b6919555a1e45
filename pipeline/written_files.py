"""Files for people, written into a folder that they name."""

from collections.abc import Mapping
from pathlib import Path

from sigma_pipeline.infra.errors import ConfigError


def write_files(folder: Path, files: Mapping[str, bytes], option: str) -> None:
    """Writes ``files`` by name, over those that are there.

    Args:
        folder: made where it is not.
        files: what to write.
        option: that named the folder, such as ``--out``.

    Raises:
        ConfigError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written to ({error.strerror}): name another {option}"
        ) from error
