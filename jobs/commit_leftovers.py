"""Files of commits that nobody can use any more, left by attempts that were killed."""

import logging
from collections.abc import Sequence

from sigma_pipeline.infra.errors import PipelineError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import COMMIT_FILE, OPTIMIZER_STEM, files_by_folder, read_commit

log = logging.getLogger(__name__)


def remove_leftovers(storage: Storage, run_name: str, attempt: str) -> None:
    """Deletes what older attempts left: parts of commits, and optimizer state that was dropped.

    To be called by ``attempt`` alone, when older ones may not commit any more. Where it fails, it
    warns: nothing depends on it.
    """
    try:
        for folder, files in files_by_folder(storage, run_name).items():
            if folder.rpartition("/")[2] < attempt:
                _remove(storage, [f"{folder}/{file}" for file in _useless(storage, folder, files)])
    except (OSError, PipelineError) as error:
        log.warning("What older attempts left of commits stays for now: %s", error)


def _useless(storage: Storage, folder: str, files: Sequence[str]) -> Sequence[str]:
    if COMMIT_FILE not in files:
        return files
    moments = [file for file in files if file.startswith(OPTIMIZER_STEM)]
    if moments and not read_commit(storage, f"{folder}/{COMMIT_FILE}").has_optimizer:
        return moments
    return ()


def _remove(storage: Storage, keys: Sequence[str]) -> None:
    for key in keys:
        storage.delete(key)
    if keys:
        log.info("Removed %d files of no use, such as %s", len(keys), storage.uri(keys[0]))
