"""Commits: what training has made and can go on from. Read side and records, without DeepSpeed.

A commit is a folder ``runs/<run>/train/step-00001000/<attempt>/``; it exists once its
``commit.json`` does, which is put last and names everything else. Weights are whole; optimizer
state lies in pieces that any number of processes can read (see ``pieces``).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import (
    Storage,
    read_json,
    write_json,
    write_json_if_absent,
)
from sigma_pipeline.jobs.pieces import Piece
from sigma_pipeline.model import weights

COMMIT_FILE = "commit.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT_VERSION = 2

_COMMIT_KEY = re.compile(r"/step-(\d{8,})/([^/]+)/commit\.json$")


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A complete checkpoint: where training stood, and which tensors lie where."""

    run_name: str
    step: int
    """Optimizer steps taken."""
    attempt: str
    epoch: int
    batch: int
    """Next global batch, within ``epoch``."""
    global_batch_clips: int
    world_size: int
    """Of the job that wrote it; any other legal one can go on."""
    config_fingerprint: str
    datasets: tuple[Mapping[str, str], ...]
    """Of each: name, split, version, and root_hash of the index."""
    model: Mapping[str, Any]
    """ModelConfig as plain data."""
    weights_sha256: str
    canary_loss: float
    optimizer_steps: int = 0
    """Updates that the optimizer has applied: ``step`` without those skipped."""
    has_optimizer: bool = False
    """False at step 0, and after the optimizer state was dropped to save space."""
    replaced_samples: int = 0
    """Since the start of the run: bad samples in whose place others were taken."""
    ledger: Mapping[str, float] = field(default_factory=dict)
    """Seconds since the start of the run, over all attempts, by what they were spent on."""
    weights: tuple[Piece, ...] = ()
    optimizer: tuple[Piece, ...] = ()
    """``exp_avg/<parameter>`` and ``exp_avg_sq/<parameter>``."""

    @property
    def prefix(self) -> str:
        """Key of the folder of its files."""
        return commit_prefix(self.run_name, self.step, self.attempt)


def train_folder(run_name: str) -> str:
    """Key of the folder of everything that training writes, except for its journal."""
    return f"runs/{run_name}/train"


def commit_prefix(run_name: str, step: int, attempt: str) -> str:
    """Key of the folder of one commit."""
    return f"{train_folder(run_name)}/step-{step:08d}/{attempt}"


def list_commits(storage: Storage, run_name: str) -> list[Commit]:
    """The commits of a run by step; of several attempts at a step, the newest one's."""
    return [_read(storage, key) for key in _commit_keys(storage, run_name).values()]


def newest_commit(storage: Storage, run_name: str) -> Commit | None:
    """The commit of the highest step, or None before the first."""
    keys = list(_commit_keys(storage, run_name).values())
    return _read(storage, keys[-1]) if keys else None


def free_run_name(storage: Storage, run_name: str) -> str:
    """The run's name with the first number that no run has."""
    number = 2
    while storage.list(f"runs/{run_name}-{number}"):
        number += 1
    return f"{run_name}-{number}"


def load_weights(storage: Storage, commit: Commit) -> dict[str, Tensor]:
    """All weights of a commit, on the CPU.

    Raises:
        StageError: the file is not the one that was committed.
    """
    key = f"{commit.prefix}/{WEIGHTS_FILE}"
    data = storage.read(key)
    if hashlib.sha256(data).hexdigest() != commit.weights_sha256:
        raise StageError(
            f"{storage.uri(key)} is damaged: its bytes are not those that were committed; "
            "delete this commit and use an earlier one"
        )
    return weights.load_weights(data)


def put_commit(storage: Storage, commit: Commit) -> None:
    """Makes a commit exist, after all of its files; then names it as the newest.

    Raises:
        StageError: this attempt has committed this step before.
    """
    key = f"{commit.prefix}/{COMMIT_FILE}"
    if not write_json_if_absent(storage, key, _to_json(commit)):
        raise StageError(f"{storage.uri(key)} exists: one attempt commits a step only once")
    # A hint for people and followers; whoever resumes looks at the commits themselves.
    hint = {"step": commit.step, "attempt": commit.attempt, "prefix": commit.prefix}
    write_json(storage, f"{train_folder(commit.run_name)}/latest.json", hint)


def drop_old_optimizer_states(storage: Storage, run_name: str, keep: int) -> None:
    """Frees the optimizer state of all commits but the newest ``keep`` that have it.

    ``commit.json`` is rewritten first, so that it never names what is gone.
    """
    num_kept = 0
    for key in reversed(_commit_keys(storage, run_name).values()):
        commit = _read(storage, key)
        if not commit.has_optimizer and num_kept >= keep:
            return  # those before were dropped before
        num_kept += commit.has_optimizer
        if num_kept > keep:
            _drop_optimizer_state(storage, commit)


def _drop_optimizer_state(storage: Storage, commit: Commit) -> None:
    light = replace(commit, has_optimizer=False, optimizer=())
    write_json(storage, f"{commit.prefix}/{COMMIT_FILE}", _to_json(light))
    for file in sorted({piece.file for piece in commit.optimizer}):
        storage.delete(f"{commit.prefix}/{file}")


def _commit_keys(storage: Storage, run_name: str) -> dict[int, str]:
    """Key of commit.json by step, ascending; keys come sorted, so a newer attempt wins."""
    found = {}
    for key in storage.list(train_folder(run_name)):
        if match := _COMMIT_KEY.search(key):
            found[int(match[1])] = key
    return dict(sorted(found.items()))


def _to_json(commit: Commit) -> dict[str, Any]:
    return {"format": FORMAT_VERSION, **asdict(commit)}


def _read(storage: Storage, key: str) -> Commit:
    record = read_json(storage, key)
    version = record.pop("format", None)
    if version != FORMAT_VERSION:
        raise StageError(
            f"{storage.uri(key)} has format {version}, this version reads {FORMAT_VERSION}; "
            "use the version of sigma-pipeline that wrote it"
        )
    record["datasets"] = tuple(record["datasets"])
    for name in ("weights", "optimizer"):
        record[name] = tuple(Piece(**piece) for piece in record[name])
    return Commit(**record)
