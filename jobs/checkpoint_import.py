"""Weights from elsewhere as a run of their own: one commit at step 0, and training is done.

Evaluation takes it like any other run. Training does not go on from it: the commit has no data and
no optimizer state.
"""

import hashlib
import logging
import math
import tempfile
from dataclasses import replace
from pathlib import Path

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.storage import Storage, write_json_if_absent
from sigma_pipeline.jobs.commits import (
    IMPORTED,
    WEIGHTS_FILE,
    Commit,
    free_run_name,
    newest_commit,
    put_commit,
    put_hint,
    train_folder,
)
from sigma_pipeline.jobs.pieces import Piece
from sigma_pipeline.jobs.tensor_pieces import write_pieces
from sigma_pipeline.model.checkpoint_files import Checkpoint, read_checkpoint
from sigma_pipeline.model.config import ModelConfig

log = logging.getLogger(__name__)


def import_checkpoint(
    storage: Storage, run_name: str, path: Path, model: ModelConfig, scratch_dir: Path
) -> Commit:
    """Makes the weights in a file the commit of a run; the one that is there, if it has them.

    Args:
        storage: where the run will lie.
        run_name: of a run without commits.
        path: file or folder, as ``read_checkpoint`` takes them.
        model: of the recipe. All that the weights show must agree with it; what they don't show,
            such as the clips' length and size, is taken from it.
        scratch_dir: for the weights on their way to the store.

    Raises:
        ConfigError: it is no checkpoint, is not one of ``model``, or the run has other commits.
        MissingInputError: there is no such file.
    """
    checkpoint = _read(path)
    _require_agreement(path, checkpoint, model)
    if not checkpoint.has_own_norm:
        log.info("%s has no final norm; one that is not learned stands in for it", path)
    scratch_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch_dir) as folder:
        weights = Path(folder, WEIGHTS_FILE)
        pieces = write_pieces(weights, checkpoint.state, {})
        commit = _imported(run_name, model, weights, pieces)
        existing = newest_commit(storage, run_name)
        if existing is None:
            commit = _put(storage, commit, weights)
        else:
            commit = _same_import(storage, existing, commit)
    _end_training(storage, commit, path, checkpoint.kind)
    log.info("Imported %s, a %s: %s", path, checkpoint.kind, storage.uri(commit.prefix))
    return commit


def _read(path: Path) -> Checkpoint:
    try:
        return read_checkpoint(path)
    except FileNotFoundError as error:
        raise MissingInputError(f"{error.filename or path} is not there") from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path} cannot be imported: {error}") from error


def _require_agreement(path: Path, checkpoint: Checkpoint, model: ModelConfig) -> None:
    if problems := checkpoint.differences(model):
        lines = "\n  ".join(problems)
        raise ConfigError(
            f"{path}, a {checkpoint.kind}, does not fit the recipe's model; name a recipe that it "
            f"fits with --config, or change this one with --set:\n  {lines}"
        )


def _imported(run_name: str, model: ModelConfig, weights: Path, pieces: list[Piece]) -> Commit:
    """The commit to be, before it is known which attempt puts it."""
    with weights.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Commit(
        run_name=run_name,
        step=0,
        attempt="",
        epoch=0,
        batch=0,
        global_batch_clips=0,
        world_size=0,
        config_fingerprint=IMPORTED,
        datasets=(),
        model=model.model_dump(mode="json"),
        weights_sha256=sha256,
        canary_loss=math.nan,  # a canary needs data
        weights=tuple(pieces),
    )


def _put(storage: Storage, commit: Commit, weights: Path) -> Commit:
    commit = replace(commit, attempt=new_attempt())
    storage.upload(weights, f"{commit.prefix}/{WEIGHTS_FILE}")
    put_commit(storage, commit)
    put_hint(storage, commit)
    return commit


def _same_import(storage: Storage, existing: Commit, commit: Commit) -> Commit:
    """``existing``, which differs from ``commit`` only in who put it."""
    if replace(existing, attempt="", canary_loss=0) != replace(commit, canary_loss=0):
        name = existing.run_name
        raise ConfigError(
            f"run {name!r} has commits of its own, up to step {existing.step}; import under "
            f"another name: --set run_name={free_run_name(storage, name)}"
        )
    return existing


def _end_training(storage: Storage, commit: Commit, path: Path, kind: str) -> None:
    manifest = {
        "run_name": commit.run_name,
        "fingerprint": IMPORTED,
        "step": 0,
        "commit": commit.prefix,
        "attempt": commit.attempt,
        "datasets": (),
        "imported": {"file": path.name, "kind": kind},
    }
    key = f"{train_folder(commit.run_name)}/manifest.json"
    write_json_if_absent(storage, key, manifest)
