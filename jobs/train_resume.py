"""Which commit training goes on from: the newest one of which every byte is there."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.checkpoints import load_weights
from sigma_pipeline.jobs.commits import Commit, commit_keys, read_commit
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.pieces import DamagedCommit, Piece, read_checked
from sigma_pipeline.jobs.train_request import TrainRequest

log = logging.getLogger(__name__)

Datasets = tuple[dict[str, str], ...]
_DROPPED = "has no optimizer state"


class Resumable(NamedTuple):
    """A commit whose files were read and found to be those that were written."""

    commit: Commit | None
    """None before the first."""
    weights: Mapping[str, Tensor]
    """All that it has, on the CPU."""


def find_resumable(
    request: TrainRequest, context: RankContext, storage: Storage, datasets: Datasets
) -> Resumable:
    """The newest commit that training can go on from. A collective.

    One that is damaged is passed over with a warning, on every rank; each rank reads all weights
    and its share of the optimizer state.

    Args:
        request: of the run.
        context: of this rank.
        storage: where the run lies.
        datasets: what is read now.

    Raises:
        ConfigError: the run has other settings or data.
        StageError: there are commits, but none to go on from; or another release wrote them.
    """
    # Looked up by one rank: between two looks an older attempt might still commit.
    keys = context.from_first(lambda: commit_keys(storage, request.run_name)[::-1])
    problems: list[str] = []
    for key in keys:
        commit = context.from_first(partial(_read, storage, key))
        found: Resumable | str = commit if isinstance(commit, str) else ""
        if isinstance(commit, Commit):
            check_science(commit, request, datasets)
            if commit.step == 0 and any(_DROPPED in problem for problem in problems):
                break  # from scratch, though training has gone far
            found = _verified(commit, context, storage)
        if isinstance(found, Resumable):
            return found
        problems.append(found)
        if context.is_first:
            log.warning("A COMMIT CANNOT BE RESUMED, an earlier one is looked for: %s", found)
    if problems:
        raise StageError(
            f"run {request.run_name!r} has commits, but training can go on from none of them: "
            f"{'; '.join(problems)}. Bring back the files of one of them, or choose a new run_name"
        )
    return Resumable(None, {})


def check_science(commit: Commit, request: TrainRequest, datasets: Datasets) -> None:
    """Refuses a commit of another science.

    Raises:
        ConfigError: settings or data are not those that the run was begun with.
    """
    if commit.config_fingerprint != request.config_fingerprint or commit.datasets != datasets:
        raise ConfigError(
            f"run {request.run_name!r} was begun with other settings or data (fingerprint "
            f"{commit.config_fingerprint}, now {request.config_fingerprint}; data "
            f"{_shown(commit.datasets)}, now {_shown(datasets)}); choose a new run_name, or the "
            "settings of then"
        )


def _read(storage: Storage, key: str) -> Commit | str:
    """The commit, or why it cannot be read."""
    try:
        return read_commit(storage, key)
    except DamagedCommit as error:
        return str(error)


def _verified(commit: Commit, context: RankContext, storage: Storage) -> Resumable | str:
    """The commit with its weights, or what some rank has found; the same on every rank."""
    if commit.step > 0 and not commit.has_optimizer:
        return f"commit {commit.prefix} {_DROPPED}"
    weights: Mapping[str, Tensor] = {}
    problem = ""
    try:
        share = _share(commit.optimizer, context.rank, context.world_size)
        for _ in read_checked(storage, commit.prefix, share):
            pass  # what this rank will need is known only when there is an engine
        weights = load_weights(storage, commit)
    except DamagedCommit as error:
        problem = str(error)
    found = dict.fromkeys(filter(None, context.all_gather(problem)))
    return "; ".join(found) or Resumable(commit, weights)


def _share(pieces: Sequence[Piece], rank: int, world_size: int) -> list[Piece]:
    """A part of all pieces, each of which falls to one rank; neighbours stay together."""
    in_order = sorted(pieces, key=lambda piece: (piece.file, piece.offset))
    first, end = (len(in_order) * number // world_size for number in (rank, rank + 1))
    return in_order[first:end]


def _shown(datasets: Iterable[Mapping[str, str]]) -> str:
    return ", ".join(
        "{name}/{split} {version} with root hash {root_hash:.12}".format(**dataset)
        for dataset in datasets
    )
