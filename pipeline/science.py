"""What the result of training depends on, and how two such descriptions differ.

Resuming with other science would make a checkpoint that no recipe describes; so the settings are
recorded in the run when it begins and compared whenever it goes on.
"""

from collections.abc import Mapping
from typing import Any

from sigma_pipeline.infra.identity import fingerprint
from sigma_pipeline.jobs.config import TrainConfig
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.teacher import identify_teacher

TEACHER_KEY = "teacher_sha256"
"""Of a frozen teacher's content; runs begun by earlier releases lack it."""
_WITHOUT_EFFECT = frozenset(
    {
        "train.loader.workers",
        "train.loader.prefetch_batches",
        "train.loader.decoded_cache_gib",
        "train.loader.read_threads",
        "train.loader.range_cache_gib",
        "train.loader.max_bad_fraction",
        "train.commit_every_steps",
        "train.log_every_steps",
        "train.commit_every_min",
        "train.commit_grace_min",
        "train.keep_last",
        "train.keep_every_steps",
        "train.max_bad_steps",
        "train.after_bad_steps",
        "train.zero_stage",
        "model.execution",
    }
)
_RENAMED = {"keep_optimizer_commits": "keep_last"}
"""Settings of training by their names of earlier releases."""
_MICRO_BATCH = "train.micro_batch_clips"
_TEACHER_PATH = "model.target.teacher_weights"
_HEADLINE = (
    "seed",
    "dataset_version",
    "model.num_frames",
    "model.frame_size_px",
    "model.mask_ratio",
    "model.encoder.embed_dim",
    "model.encoder.depth",
    "model.target.kind",
    "model.objective",
    "model.prototypes",
    "model.assignment",
    "model.sinkhorn.epsilon",
    "train.dataset",
    "train.epochs",
    "train.global_batch_clips",
    "train.precision",
    "train.optimizer.base_lr",
    "train.optimizer.weight_decay",
)


def training_settings(config: PipelineConfig, version: str | Mapping[str, str]) -> dict[str, Any]:
    """All that training is told, as plain data; of a frozen teacher also what its files hold.

    Args:
        config: of the run.
        version: of the split it reads; by dataset where it reads several.

    Raises:
        ConfigError: the frozen teacher is not where the recipe says.
    """
    teacher = identify_teacher(config.model.target)
    return ({} if teacher is None else {TEACHER_KEY: teacher}) | {
        "seed": config.seed,
        "dataset_version": version,
        "model": config.model.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json"),
    }


def completed(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Settings recorded by an earlier release: old names renewed, new keys with their defaults."""
    train = {_RENAMED.get(key, key): value for key, value in recorded["train"].items()}
    return {
        **recorded,
        "model": ModelConfig.model_validate(recorded["model"]).model_dump(mode="json"),
        "train": TrainConfig.model_validate(train).model_dump(mode="json"),
    }


def is_teacher_unknown(recorded: Mapping[str, Any]) -> bool:
    """Whether a run has a frozen teacher, and nobody wrote down which: it cannot be resumed."""
    return recorded["model"]["target"]["kind"] == "dino" and TEACHER_KEY not in recorded


def science_fingerprint(settings: Mapping[str, Any]) -> str:
    """Equal exactly for settings that ask for the same weights."""
    return fingerprint(_science(settings))


def headline(settings: Mapping[str, Any]) -> dict[str, str]:
    """The few settings by which runs are told apart in a list of them; all are in the recipe."""
    return {key: _shown(settings, key) for key in _HEADLINE}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Lines ``key: old -> new``: first of settings that touch the science, then of the others."""
    old, new = _flat(before), _flat(now)
    science = _science(before).keys() | _science(now).keys()
    touching: list[str] = []
    harmless: list[str] = []
    for key in [*old, *(key for key in new if key not in old)]:
        if old.get(key) != new.get(key):
            line = f"{key}: {old.get(key)} -> {new.get(key)}"
            (touching if key in science else harmless).append(line)
    return touching, harmless


def _science(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves that touch the science, by dotted key.

    How a global batch is cut touches it only where assignments are balanced per micro-batch, and
    where a frozen teacher lies not at all, once its content is known.
    """
    leaves = _flat(settings)
    is_cut_free = leaves["model.objective"] != "sigma" or (
        leaves["model.sinkhorn.scope"] == "global_batch"
    )
    free = _WITHOUT_EFFECT | ({_MICRO_BATCH} if is_cut_free else set())
    free |= {_TEACHER_PATH} if TEACHER_KEY in leaves else set()
    return {key: value for key, value in leaves.items() if not _is_within(key, free)}


def _shown(settings: Mapping[str, Any], key: str) -> str:
    """A leaf, or the few leaves of a mixture, as text."""
    value: Any = settings
    for part in key.split("."):
        value = value[part]
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {leaf}" for name, leaf in value.items())
    return str(value)


def _is_within(key: str, sections: frozenset[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            leaves |= _flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves
