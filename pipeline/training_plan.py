"""What the train stage would do, worked out without training, without a store, without memory."""

from collections.abc import Iterator

import torch

from sigma_pipeline.data_prep.manifest import read_manifest
from sigma_pipeline.infra.errors import MissingInputError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import newest_commit
from sigma_pipeline.model.config import ModelConfig, TargetConfig
from sigma_pipeline.model.sigma import Sigma, num_parameters
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.science import training_settings
from sigma_pipeline.pipeline.training import (
    check_trainable,
    is_training_finished,
    require_same_science,
)
from sigma_pipeline.pipeline.versions import resolve_refs

_TEACHER_DIMS = {"dino_s": 384, "dino_b": 768}
_BYTES_PER_PARAMETER = 4
_MOMENTS = 2  # of AdamW, per parameter


def preview_train_stage(config: PipelineConfig, storage: Storage) -> Iterator[str]:
    """What training would do; nothing is written.

    Raises:
        ConfigError: this version, or this run, cannot be trained with these settings.
    """
    train, optimizer = config.train, config.train.optimizer
    yield _schedule(config, storage)
    peak = optimizer.base_lr * train.global_batch_clips / 256
    yield f"peak learning rate {peak:.4g}; a commit every {train.commit_every_steps} steps"
    count = parameter_count(config.model)
    weights_mb = count * _BYTES_PER_PARAMETER / 1e6
    yield (
        f"{count:,} parameters; a commit takes {weights_mb:.1f} MB of weights, and "
        f"{_MOMENTS * weights_mb:.1f} MB of optimizer state in the newest "
        f"{train.keep_optimizer_commits}"
    )
    check_trainable(config, storage)
    yield _progress(config, storage)


def parameter_count(model: ModelConfig) -> int:
    """Trained numbers of a model of any size; frozen teachers have none."""
    if model.target.teacher is None:
        with torch.device("meta"):
            return num_parameters(Sigma(model))
    # The same shape around a target of the teacher's width, which is then left out.
    stand_in = TargetConfig(dim=_TEACHER_DIMS[model.target.teacher])
    with torch.device("meta"):
        sigma = Sigma(model.model_copy(update={"target": stand_in}))
    return num_parameters(sigma) - num_parameters(sigma.target)


def num_train_samples(config: PipelineConfig, storage: Storage) -> int | None:
    """Videos of the training split as sharded; None before."""
    split = config.train.dataset, config.train.split
    try:
        ref = resolve_refs(storage, config, [split])[split]
    except MissingInputError:
        return None
    manifest = read_manifest(storage, ref)
    return None if manifest is None else int(manifest["samples"])


def total_steps(config: PipelineConfig, num_samples: int) -> int:
    """Optimizer steps of the whole run; the tail of an epoch that fills no batch is left out."""
    return config.train.epochs * (num_samples // config.train.global_batch_clips)


def _schedule(config: PipelineConfig, storage: Storage) -> str:
    train = config.train
    samples = num_train_samples(config, storage)
    batches = f"{train.epochs} epochs in batches of {train.global_batch_clips} clips"
    if samples is None:
        return f"{batches}; how many steps that are is known once {train.dataset} is sharded"
    return f"{batches} of {samples} videos: {total_steps(config, samples)} steps"


def _progress(config: PipelineConfig, storage: Storage) -> str:
    split = config.train.dataset, config.train.split
    try:
        version = resolve_refs(storage, config, [split])[split].version
    except MissingInputError:
        return "begins when the dataset is there"
    require_same_science(storage, config.run_name, training_settings(config, version))
    if is_training_finished(storage, config.run_name):
        return "trained to its end; skipped"
    commit = newest_commit(storage, config.run_name)
    return "begins at step 0" if commit is None else f"goes on from step {commit.step}"
