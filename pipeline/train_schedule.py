"""How long training is, from its settings and the number of samples; light, for every command."""

from collections.abc import Mapping

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.manifest import read_manifest
from sigma_pipeline.data_prep.train_order import epoch_clips
from sigma_pipeline.infra.errors import MissingInputError, StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.versions import resolve_refs


def num_train_samples(config: PipelineConfig, storage: Storage) -> dict[str, int] | None:
    """Videos that each dataset gives to training; None before all are sharded and chosen."""
    refs = known_refs(config, storage)
    if refs is None:
        return None
    manifests = {name: read_manifest(storage, ref) for (name, _), ref in refs.items()}
    return {name: int(found["samples"]) for name, found in manifests.items() if found is not None}


def total_steps(config: PipelineConfig, num_samples: Mapping[str, int]) -> int:
    """Optimizer steps of the whole run; the tail of an epoch that fills no batch is left out.

    Args:
        config: of the run.
        num_samples: of each dataset that is trained on.
    """
    clips = sum(clips_per_epoch(config, num_samples).values())
    return config.train.epochs * (clips // config.train.global_batch_clips)


def clips_per_epoch(config: PipelineConfig, num_samples: Mapping[str, int]) -> dict[str, int]:
    """Clips of one epoch, of each dataset."""
    weights = config.train.weights
    sizes = [num_samples[name] for name in weights]
    clips = epoch_clips(sizes, list(weights.values()), config.train.clip.clips_per_decode)
    return dict(zip(weights, clips, strict=True))


def known_refs(
    config: PipelineConfig, storage: Storage
) -> dict[tuple[str, str], DatasetRef] | None:
    """What is trained on; None where the store has no version of it, or several to choose from."""
    try:
        return resolve_refs(storage, config, config.trained_splits)
    except (MissingInputError, StageError):
        return None
