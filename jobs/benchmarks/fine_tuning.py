"""What a benchmark has trained through the encoder, by the trainer of pre-training.

In the gang of the cell: with commits, so that an attempt that ended goes on where it stood, and the
same on any number of processes but for rounding.
"""

import logging
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import torch

from sigma_pipeline.data_prep.config import LoaderConfig
from sigma_pipeline.infra.errors import Interrupted
from sigma_pipeline.infra.identity import fingerprint
from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import Storage, open_storage, read_json
from sigma_pipeline.jobs.benchmarks.benchmark import Subject
from sigma_pipeline.jobs.checkpoints import load_weights
from sigma_pipeline.jobs.commits import (
    COMMIT_FILE,
    Commit,
    files_by_folder,
    manifest_key,
    read_commit,
)
from sigma_pipeline.jobs.config import OptimizerConfig, TrainConfig
from sigma_pipeline.jobs.decoded import decoders
from sigma_pipeline.jobs.fine_tuning_objective import FineTuning
from sigma_pipeline.jobs.pieces import DamagedCommit
from sigma_pipeline.jobs.stop_wish import StopWish
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import RankPlace, TrainRequest
from sigma_pipeline.jobs.train_result import TrainResult

log = logging.getLogger(__name__)

_COMMITS = 10
"""Of a training, besides those by the clock."""
_COMMIT_EVERY_MIN = 15.0
_KEPT_COMMITS = 2
"""The newest one, and one to fall back on should it be damaged."""
_TRAINING_MEMORY = 8
"""Clips that are encoded at once, for each that is trained on: gradients need what lies between.
Of 32, the default of ``evaluate.batch_clips``, 4 are left, which is the published number."""

CURVE = "training/curve.csv"
"""Name of the ``training_curve`` among the files of a cell."""
_SHOWN = ("loss", "lr", "gradient_norm")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long and how fast is learned; rates are per 256 videos of a step (protocols 2)."""

    epochs: int
    warmup_epochs: float
    batch_videos: int
    base_lr: float
    min_lr: float
    weight_decay: float


def videos_of_step(wanted: int, num_videos: int, unit: int = 1) -> int:
    """As many as wanted, or as there are: a multiple of ``unit``.

    Raises:
        ValueError: there are fewer than ``unit``.
    """
    if num_videos < unit:
        raise ValueError(f"{num_videos} training videos are too few: {unit} make the smallest step")
    return min(wanted, num_videos) // unit * unit


def smaller_step(setting: str, wanted: int, num_videos: int, taken: int) -> list[str]:
    """A remark where a step takes fewer videos than ``setting`` asks for."""
    if taken == wanted:
        return []
    return [
        f"{setting}={wanted} is more than the {num_videos} training videos: {taken} a step, and "
        "the learning rate as much lower"
    ]


def training_config(
    subject: Subject, tuning: FineTuning, recipe: Recipe, *, num_videos: int, unit: int = 1
) -> TrainConfig:
    """How ``fine_tune`` trains: the rate goes by the videos of a step, not by their clips.

    Args:
        subject: whose ``batch_clips`` says, divided by eight, how many clips a process takes at
            once; that changes nothing but rounding.
        tuning: what is learned.
        recipe: as asked for.
        num_videos: to learn from.
        unit: what the videos that a process takes at once are a multiple of.

    Raises:
        ValueError: the gang cannot share a step.
    """
    batch_videos = recipe.batch_videos
    share, rest = divmod(batch_videos, subject.gang.size)
    if rest or share % unit:
        raise ValueError(
            f"{subject.gang.size} processes cannot share the {batch_videos} videos of a step in "
            f"multiples of {unit}; set the cell's processes to one of "
            f"{', '.join(map(str, _divisors(batch_videos // unit)))}"
        )
    repeats = tuning.clip.clips_per_decode
    at_once = _at_once(share, unit, subject.batch_clips // _TRAINING_MEMORY // repeats)
    assert subject.train is not None, "needs.train"
    return TrainConfig(
        dataset=subject.train.ref.name,
        split=subject.train.ref.split,
        epochs=recipe.epochs,
        global_batch_clips=batch_videos * repeats,
        micro_batch_clips=at_once * repeats,
        clip=tuning.clip,
        optimizer=OptimizerConfig(
            base_lr=recipe.base_lr / repeats,
            min_lr=recipe.min_lr / repeats,
            warmup_epochs=recipe.warmup_epochs,
            betas=(0.9, 0.999),
            weight_decay=recipe.weight_decay,
        ),
        precision=subject.precision,
        commit_every_steps=num_videos // batch_videos * ceil(recipe.epochs / _COMMITS),
        commit_every_min=_COMMIT_EVERY_MIN,
        keep_last=_KEPT_COMMITS,
    )


def fine_tune(subject: Subject, tuning: FineTuning, train: TrainConfig) -> Commit:
    """The last commit of a training in the gang, which goes on from what an earlier attempt left.

    Had that one ended, but its last commit was damaged since, it goes on from the one before.

    Raises:
        Interrupted: it was asked to stop; another attempt goes on.
        StageError: a sample cannot be read, numbers are not finite, or a process died.
    """
    assert subject.train is not None, "needs.train"
    _forget_damaged_end(subject.storage, subject.training_name)
    request = TrainRequest(
        run_name=subject.training_name,
        root_uri=subject.storage.root_uri,
        work_dir=str(subject.work_dir),
        scratch_dir=str(subject.scratch_dir),
        seed=tuning.seed,
        model=tuning.model,
        train=train,
        datasets=(subject.train.ref,),
        learning=tuning,
        config_fingerprint=fingerprint(subject.training_name),  # which bears the cell's own
        preflight=False,
        max_attempts_without_progress=2**31,  # who evaluates counts them
    )
    result = subject.gang.run(_train, request)[0]
    if result["state"] != "finished" or result["commit"] is None:
        raise Interrupted(f"fine-tuning was stopped at step {result['step']}: {result['reason']}")
    return read_commit(subject.storage, f"{result['commit']}/{COMMIT_FILE}")


def training_curve(subject: Subject) -> bytes:
    """Numbers of the training's steps as a CSV file; its journal goes when its cell is done."""
    entries, _ = read_entries(subject.storage, subject.training_name)
    steps = {
        entry.fields["step"]: entry.fields["values"] for entry in entries if entry.kind == "metrics"
    }
    rows = (
        ",".join([f"{step}", *(f"{values[f'train/{name}']:.6g}" for name in _SHOWN)])
        for step, values in sorted(steps.items())
    )
    return "\n".join([",".join(["step", *_SHOWN]), *rows, ""]).encode()


def _train(place: RankPlace, request: TrainRequest) -> TrainResult:
    """In every process of the gang; what its threads are, only it knows."""
    storage, threads = open_storage(request.root_uri), torch.get_num_threads()
    loader = LoaderConfig(workers=decoders())
    own = replace(
        request,
        cpus_per_process=threads,
        train=request.train.model_copy(update={"loader": loader}),
    )
    forget = partial(_forget_older, storage, request.run_name)
    # A process of a gang is ended by others, without signals that could be heard.
    return run_train(own, place, StopWish(), on_commit=lambda _step: forget())


def _forget_damaged_end(storage: Storage, run_name: str) -> None:
    """A training whose last commit cannot be read whole has not ended."""
    manifest = manifest_key(run_name)
    if not storage.exists(manifest):
        return
    try:
        commit = read_json(storage, manifest)["commit"]
        load_weights(storage, read_commit(storage, f"{commit}/{COMMIT_FILE}"))
    except DamagedCommit as error:
        log.warning("A training that had ended goes on from an earlier commit: %s", error)
        storage.delete(manifest)


def _forget_older(storage: Storage, run_name: str) -> None:
    """Deletes all commits but the newest ones, weights and all: nobody will evaluate them."""
    folders = files_by_folder(storage, run_name)
    committed = sorted(folder for folder, files in folders.items() if COMMIT_FILE in files)
    for folder in committed[:-_KEPT_COMMITS]:
        for file in sorted(folders[folder], key=lambda name: name != COMMIT_FILE):
            storage.delete(f"{folder}/{file}")


def _at_once(videos: int, unit: int, limit: int) -> int:
    """How many of ``videos`` go through the model at once: ``limit`` at most, ``unit`` at least."""
    fitting = [unit * count for count in _divisors(videos // unit)]
    return max((count for count in fitting if count <= limit), default=unit)


def _divisors(number: int) -> list[int]:
    return [count for count in range(1, number + 1) if number % count == 0]
