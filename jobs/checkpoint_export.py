"""Commits as files for others: safetensors, the official release's ``.pth``, Hugging Face."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.best_commit import find_best
from sigma_pipeline.jobs.checkpoints import load_weights
from sigma_pipeline.jobs.commits import Commit, list_commits
from sigma_pipeline.model.checkpoint_files import write_safetensors
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.huggingface import write_huggingface
from sigma_pipeline.model.official import write_official


class Weights(NamedTuple):
    """What a file for others is made of."""

    state: Mapping[str, Tensor]
    model: ModelConfig
    epoch: int
    """Number of the last finished one, counted from 0."""
    classes: tuple[str, ...] = ()
    """Names of those of a classifier."""


Write = Callable[[Path, Weights], None]


def find_commit(storage: Storage, run_name: str, step: int | Literal["best"] | None) -> Commit:
    """The commit of a step, or the one that is marked as the best; the newest one for None.

    Raises:
        MissingInputError: there is none; names the steps that there are.
    """
    if step == "best":
        return find_best(storage, run_name)
    commits = {commit.step: commit for commit in list_commits(storage, run_name)}
    if not commits:
        raise MissingInputError(
            f"run {run_name!r} has no commit; make one with: sigma-pipeline run --stage train, or "
            "sigma-pipeline checkpoints import"
        )
    if step is not None and step not in commits:
        raise MissingInputError(
            f"run {run_name!r} has no commit at step {step}; it has: {', '.join(map(str, commits))}"
        )
    return commits[max(commits) if step is None else step]


def export_commit(storage: Storage, commit: Commit, layout: str, out: Path) -> None:
    """Writes the weights of a commit to ``out``, as ``export_weights`` does.

    Raises:
        ConfigError: ``out`` is there, or cannot be written.
        StageError: the commit is damaged.
    """
    model, epoch = ModelConfig.model_validate(commit.model), max(0, commit.epoch - 1)
    export_weights(lambda: Weights(load_weights(storage, commit), model, epoch), layout, out)


def export_weights(weights: Callable[[], Weights], layout: str, out: Path) -> None:
    """Makes ``out``, which then exists as a whole or not at all.

    Args:
        weights: called once, where ``out`` is not there.
        layout: one of ``LAYOUTS``.
        out: a new file, or for ``huggingface`` a new folder.

    Raises:
        ConfigError: ``out`` is there, or cannot be written.
    """
    if out.exists():
        raise ConfigError(f"{out} exists and is not overwritten; choose another --out")
    loaded = weights()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as folder:
            unfinished = Path(folder, out.name)
            LAYOUTS[layout](unfinished, loaded)
            _make_readable(unfinished, Path(folder, ".new"))
            unfinished.rename(out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}") from error


def _write_safetensors(path: Path, weights: Weights) -> None:
    write_safetensors(path, weights.state, weights.model, weights.classes)


def _write_official(path: Path, weights: Weights) -> None:
    write_official(path, weights.state, weights.model, weights.epoch)


def _write_huggingface(path: Path, weights: Weights) -> None:
    path.mkdir()
    write_huggingface(path, weights.state, weights.model, weights.classes)


LAYOUTS: Mapping[str, Write] = {
    "safetensors": _write_safetensors,
    "huggingface": _write_huggingface,
    "official": _write_official,
}


def _make_readable(path: Path, new: Path) -> None:
    """Gives files the permissions of any new file; safetensors writes for the owner's eyes only."""
    new.touch()
    for file in (path, *path.glob("*")):
        if file.is_file():
            file.chmod(new.stat().st_mode)
