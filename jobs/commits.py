"""Commits: what training has made and can go on from. Records, without PyTorch.

A commit is a folder ``runs/<run>/train/step-00001000/<attempt>/``; it exists once its
``commit.json`` does, which is put last and names everything else. Weights are whole; optimizer
state lies in pieces that any number of processes can read (see ``pieces``).
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage, write_json, write_json_if_absent
from sigma_pipeline.jobs.pieces import DamagedCommit, Piece

log = logging.getLogger(__name__)

COMMIT_FILE = "commit.json"
WEIGHTS_FILE = "model.safetensors"
OPTIMIZER_STEM = "optimizer-"
"""How the names of files with optimizer state begin."""
FORMAT_VERSION = 2
IMPORTED = "imported"
"""Stands for the fingerprint of settings that nobody knows: of weights from elsewhere."""

_COMMIT_KEY = re.compile(r"/step-(\d{8,})/([^/]+)/commit\.json$")
_FILE_KEY = re.compile(r"(.+/train/step-\d{8,}/[^/]+)/([^/]+)$")


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
    save_s: float = 0.0
    """Seconds from the beginning of a commit to its end: of this one and the few before it of the
    same attempt, the most."""
    weights: tuple[Piece, ...] = ()
    optimizer: tuple[Piece, ...] = ()
    """``exp_avg/<parameter>`` and ``exp_avg_sq/<parameter>``."""

    @property
    def is_imported(self) -> bool:
        """Whether its weights come from elsewhere, not from training here."""
        return self.config_fingerprint == IMPORTED

    @property
    def title(self) -> str:
        """For people: ``untrained``, ``imported`` or ``step 1000``."""
        return "imported" if self.is_imported else step_title(self.step)

    @property
    def prefix(self) -> str:
        """Key of the folder of its files."""
        return commit_prefix(self.run_name, self.step, self.attempt)


def step_title(step: int) -> str:
    """For people, of a commit of which nothing but its step is known."""
    return f"step {step}" if step else "untrained"


def train_folder(run_name: str) -> str:
    """Key of the folder of everything that training writes, except for its journal."""
    return f"runs/{run_name}/train"


def manifest_key(run_name: str) -> str:
    """The object whose presence says that training is done."""
    return f"{train_folder(run_name)}/manifest.json"


def commit_prefix(run_name: str, step: int, attempt: str) -> str:
    """Key of the folder of one commit."""
    return f"{train_folder(run_name)}/step-{step:08d}/{attempt}"


def list_commits(
    storage: Storage, run_name: str, known: dict[str, Commit] | None = None
) -> list[Commit]:
    """The commits of a run by step; of several attempts at a step, the newest one's.

    One whose ``commit.json`` cannot be read is left out with a warning.

    Args:
        storage: where the run lies.
        run_name: the run.
        known: what earlier calls have read, by key, which is not read again; takes in what this
            one reads. Of such a commit it is not seen when its optimizer state was dropped.
    """
    known = {} if known is None else known
    found = []
    for key in _newest_attempts(storage, run_name).values():
        try:
            if key not in known:
                known[key] = read_commit(storage, key)
            found.append(known[key])
        except DamagedCommit as error:
            log.warning("A commit is left out: %s", error)
    return found


def newest_commit(storage: Storage, run_name: str) -> Commit | None:
    """The commit of the highest step that can be read, or None before the first."""
    for key in reversed(commit_keys(storage, run_name)):
        try:
            return read_commit(storage, key)
        except DamagedCommit as error:
            log.warning("A commit is left out: %s", error)
    return None


def newest_step(storage: Storage, run_name: str) -> int:
    """The highest step that was committed, 0 before any; no commit is read."""
    return max(_newest_attempts(storage, run_name), default=0)


def committed_steps(storage: Storage, run_name: str) -> list[int]:
    """All steps that were committed, ascending; no commit is read."""
    return list(_newest_attempts(storage, run_name))


def commit_keys(storage: Storage, run_name: str) -> list[str]:
    """Key of each ``commit.json`` of a run, by step, then by attempt."""
    found = []
    for key in storage.list(train_folder(run_name)):
        if match := _COMMIT_KEY.search(key):
            found.append((int(match[1]), key))
    return [key for _, key in sorted(found)]


def committing_attempts(storage: Storage, run_name: str) -> frozenset[str]:
    """Ids of the attempts that have committed a step that they took; no commit is read."""
    found = map(_COMMIT_KEY.search, commit_keys(storage, run_name))
    return frozenset(match[2] for match in found if match and int(match[1]) > 0)


def files_by_folder(storage: Storage, run_name: str) -> dict[str, list[str]]:
    """Names of the files in each folder of a commit, whether it exists or not, by its key."""
    found: dict[str, list[str]] = {}
    for key in storage.list(train_folder(run_name)):
        if match := _FILE_KEY.fullmatch(key):
            found.setdefault(match[1], []).append(match[2])
    return found


def read_commit(storage: Storage, key: str) -> Commit:
    """The commit of which this is the ``commit.json``.

    Raises:
        DamagedCommit: it is no longer there, or not what was put.
        StageError: another release wrote it.
    """
    try:
        record = json.loads(storage.read(key))
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
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedCommit(f"{storage.uri(key)} cannot be read: {error}") from error


def free_run_name(storage: Storage, run_name: str) -> str:
    """The run's name with the first number that no run has."""
    number = 2
    while storage.list(f"runs/{run_name}-{number}"):
        number += 1
    return f"{run_name}-{number}"


def put_commit(storage: Storage, commit: Commit) -> None:
    """Makes a commit exist, after all of its files.

    That the same tensors are committed already is no error: the store may have taken them and its
    answer was lost.

    Raises:
        StageError: this attempt has committed this step before, and something else.
    """
    key = f"{commit.prefix}/{COMMIT_FILE}"
    if write_json_if_absent(storage, key, _to_json(commit)):
        return
    if _content(read_commit(storage, key)) != _content(commit):
        raise StageError(f"{storage.uri(key)} exists: one attempt commits a step only once")


def put_hint(storage: Storage, commit: Commit) -> None:
    """Names a commit as the newest, for people and followers; whoever resumes looks at all."""
    hint = {"step": commit.step, "attempt": commit.attempt, "prefix": commit.prefix}
    write_json(storage, f"{train_folder(commit.run_name)}/latest.json", hint)


def drop_old_optimizer_states(
    storage: Storage, newest: Commit, keep_last: int, keep_every_steps: int | None = None
) -> None:
    """Frees the optimizer state of all commits but the last ``keep_last`` up to ``newest``.

    Those at multiples of ``keep_every_steps`` keep it too, and so do commits of later steps, which
    were there before training went back. ``commit.json`` is rewritten first, so that it never names
    what is gone.
    """
    num_kept = 0
    for commit in _newest_first(storage, newest.run_name, up_to=newest.step):
        is_kept = keep_every_steps is not None and commit.step % keep_every_steps == 0
        if not commit.has_optimizer and not is_kept and num_kept >= keep_last:
            return  # those before were dropped before
        num_kept += commit.has_optimizer
        if commit.has_optimizer and not is_kept and num_kept > keep_last:
            _drop_optimizer_state(storage, commit)


def _newest_first(storage: Storage, run_name: str, *, up_to: int) -> Iterator[Commit]:
    """Commits that can be read, one by one, of each step the newest attempt's."""
    for step, key in reversed(_newest_attempts(storage, run_name).items()):
        if step <= up_to:
            with suppress(DamagedCommit):
                yield read_commit(storage, key)


def _drop_optimizer_state(storage: Storage, commit: Commit) -> None:
    light = replace(commit, has_optimizer=False, optimizer=())
    write_json(storage, f"{commit.prefix}/{COMMIT_FILE}", _to_json(light))
    for file in sorted({piece.file for piece in commit.optimizer}):
        storage.delete(f"{commit.prefix}/{file}")


def _newest_attempts(storage: Storage, run_name: str) -> dict[int, str]:
    """Key of ``commit.json`` by step, ascending; of several attempts at a step the newest one's."""
    found = {}
    for key in commit_keys(storage, run_name):
        if match := _COMMIT_KEY.search(key):
            found[int(match[1])] = key
    return found


def _content(commit: Commit) -> tuple[object, ...]:
    """What a commit holds, by hashes."""
    return commit.config_fingerprint, commit.weights_sha256, commit.weights, commit.optimizer


def _to_json(commit: Commit) -> dict[str, Any]:
    return {"format": FORMAT_VERSION, **asdict(commit)}
