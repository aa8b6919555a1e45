"""What the train stage would do, worked out without training, without a store, without memory."""

from collections.abc import Iterator

import torch

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import newest_commit
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import Sigma, num_parameters
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.science import training_settings
from sigma_pipeline.pipeline.train_schedule import (
    clips_per_epoch,
    known_refs,
    num_train_samples,
    total_steps,
)
from sigma_pipeline.pipeline.training import (
    check_trainable,
    is_training_finished,
    require_same_science,
)
from sigma_pipeline.pipeline.versions import version_of

_BYTES_PER_PARAMETER = 4
_MOMENTS = 2  # of AdamW, per parameter


def preview_train_stage(config: PipelineConfig, storage: Storage) -> Iterator[str]:
    """What training would do; nothing is written.

    Raises:
        ConfigError: this version, or this run, cannot be trained with these settings.
    """
    train, optimizer = config.train, config.train.optimizer
    yield from _schedule(config, storage)
    peak = optimizer.base_lr * train.global_batch_clips / 256
    yield f"peak learning rate {peak:.4g}; a commit every {train.commit_every_steps} steps"
    count = parameter_count(config.model)
    weights_mb = count * _BYTES_PER_PARAMETER / 1e6
    yield (
        f"{count:,} parameters; a commit takes {weights_mb:.1f} MB of weights, and "
        f"{_MOMENTS * weights_mb:.1f} MB of optimizer state in the newest "
        f"{train.keep_last}"
    )
    check_trainable(config, storage)
    yield _progress(config, storage)


def parameter_count(model: ModelConfig) -> int:
    """Trained numbers of a model of any size; frozen teachers have none."""
    with torch.device("meta"):
        return num_parameters(Sigma(model))


def _schedule(config: PipelineConfig, storage: Storage) -> Iterator[str]:
    train = config.train
    samples = num_train_samples(config, storage)
    batches = f"{train.epochs} epochs in batches of {train.global_batch_clips} clips"
    if samples is None:
        names = " and ".join(train.weights)
        yield f"{batches}; how many steps that are is known once {names} is sharded"
        return
    yield f"{batches} of {sum(samples.values())} videos: {total_steps(config, samples)} steps"
    clips = clips_per_epoch(config, samples)
    if clips != samples:
        total = sum(clips.values())
        shares = (
            f"{number} ({100 * number / total:.3g} %) from the {samples[name]} videos of {name}"
            for name, number in clips.items()
        )
        yield f"an epoch has {total} clips: {', '.join(shares)}"


def _progress(config: PipelineConfig, storage: Storage) -> str:
    refs = known_refs(config, storage)
    if refs is None:
        return "begins when the dataset is there"
    version = version_of([refs[split] for split in config.trained_splits])
    require_same_science(storage, config.run_name, training_settings(config, version))
    if is_training_finished(storage, config.run_name):
        return "trained to its end; skipped"
    commit = newest_commit(storage, config.run_name)
    return "begins at step 0" if commit is None else f"goes on from step {commit.step}"
