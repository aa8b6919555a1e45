"""The one configuration of a run: read from YAML, changed by ``--set``, checked, and frozen.

Sections are declared beside the code that reads them; only this package puts them together.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.infra.storage import is_local
from sigma_pipeline.jobs.config import EvaluateConfig, LaunchConfig, TrackConfig, TrainConfig
from sigma_pipeline.jobs.executor import sbatch_problems
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.pipeline.overrides import apply_overrides, parse_yaml
from sigma_pipeline.pipeline.problems import describe
from sigma_pipeline.pipeline.recipe_files import read_recipe

DEMO_SOURCE = "demo://"
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
"""A name that can be a folder of the store."""
DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=80)]
"""The same, and a part of a dotted key."""


class PipelineConfig(BaseModel, frozen=True, extra="forbid"):
    """Everything a run depends on, besides the code."""

    run_name: RunName
    root_uri: str = Field(min_length=1)
    """The store all stages read and write: a folder, or ``s3://bucket/prefix``."""
    work_dir: str | None = Field(default=None, min_length=1)
    """Folder that all nodes share: job files and logs. Below a local ``root_uri`` when absent."""
    scratch_dir: str | None = Field(default=None, min_length=1)
    """Folder on a node's own disk, for caches. Below a local ``root_uri`` when absent."""
    seed: NonNegativeInt = 0
    datasets: dict[DatasetName, DatasetConfig] = Field(min_length=1)
    shard: ShardConfig = ShardConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    launch: LaunchConfig = LaunchConfig()
    track: TrackConfig = TrackConfig()
    dataset_versions: dict[str, dict[str, str]] = {}
    """Version of each split of each dataset, ``{dataset: {split: version}}``. The shard stage
    writes it into the run's own copy of the recipe; a recipe that names versions pins them."""

    @model_validator(mode="before")
    @classmethod
    def _take_shard_source(cls, values: Any) -> Any:
        """``shard.source`` sets the source of the first dataset; demo settings fall away then."""
        try:
            source, name = values["shard"]["source"], next(iter(values["datasets"]))
            dataset = dict(values["datasets"][name])
        except (KeyError, TypeError, StopIteration, ValueError):
            return values  # nothing to take, or a wrong shape that the fields' own checks report
        if not isinstance(source, str | list | tuple):
            return values
        if source != DEMO_SOURCE:
            dataset.pop("rendered", None)
        return {**values, "datasets": {**values["datasets"], name: {**dataset, "source": source}}}

    @model_validator(mode="after")
    def _check_sections_agree(self) -> Self:
        problems = [
            *_dataset_problems(self),
            *_schedule_problems(self),
            *_place_problems(self),
            *sbatch_problems(self.launch),
        ]
        if problems:
            raise ValidationError.from_exception_data(
                type(self).__name__,
                [
                    InitErrorDetails(
                        type=PydanticCustomError("agreement", "{text}", {"text": text}),
                        loc=tuple(int(p) if p.isdecimal() else p for p in key.split(".")),
                        input=None,
                    )
                    for key, text in problems
                ],
            )
        return self

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder of this machine's file system."""
        return is_local(self.root_uri)

    @property
    def work_path(self) -> Path:
        """Where job files and logs go."""
        return Path(self.work_dir) if self.work_dir else self._default_dir / "work"

    @property
    def scratch_path(self) -> Path:
        """Where caches go."""
        return Path(self.scratch_dir) if self.scratch_dir else self._default_dir / "scratch"

    @property
    def _default_dir(self) -> Path:
        return Path(self.root_uri) if self.is_local else Path.home() / ".cache" / "sigma-pipeline"

    @property
    def datasets_to_shard(self) -> tuple[str, ...]:
        """Names of the datasets the shard stage makes."""
        return self.shard.datasets if self.shard.datasets is not None else tuple(self.datasets)

    @property
    def trained_splits(self) -> list[tuple[str, str]]:
        """(dataset, split) of all that training reads, in the order of ``train.weights``."""
        return [(name, self.train.split) for name in self.train.weights]

    @property
    def evaluated_splits(self) -> list[tuple[str, str]]:
        """(dataset, split) of all that the evaluation reads."""
        return [(name, split) for key, name, split in _readers(self) if key != "train"]

    def cell_splits(self, number: int) -> list[tuple[str, str]]:
        """(dataset, split) of what the cell ``number`` reads."""
        cell = self.evaluate.cells[number]
        dataset = self.datasets.get(cell.dataset)
        # Whether the benchmark learns from labelled examples is not known here.
        learns = cell.train_split or (dataset and cell.learned_split in dataset.split_names)
        splits = [cell.learned_split, cell.test_split] if learns else [cell.test_split]
        return [(cell.dataset, split) for split in dict.fromkeys(splits)]

    def to_yaml(self) -> str:
        """The resolved recipe; reading it again gives this configuration."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_config(recipe: str, overrides: Iterable[str] = ()) -> PipelineConfig:
    """Reads a recipe, by name or path, and applies overrides of the form ``train.epochs=1``.

    Raises:
        ConfigError: lists every problem at once, each with its dotted key.
    """
    text = read_recipe(recipe).text
    try:
        values = parse_yaml(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{recipe}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{recipe}: a recipe is a mapping, not a {type(values).__name__}")
    problems = apply_overrides(values, overrides)
    try:
        config = PipelineConfig.model_validate(values)
    except ValidationError as error:
        problems += describe(error, PipelineConfig)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ConfigError("\n  ".join((f"{recipe}: {count}", *problems)))
    return config.model_copy(update={"root_uri": _absolute(config.root_uri)})


def _absolute(root_uri: str) -> str:
    """Local stores by their full path, so that the resolved recipe works from any folder."""
    return str(Path(root_uri).expanduser().resolve()) if is_local(root_uri) else root_uri


def _dataset_problems(config: PipelineConfig) -> Iterator[tuple[str, str]]:
    for name, dataset in config.datasets.items():
        if dataset.rendered is not None and DEMO_SOURCE not in dataset.sources:
            yield (
                f"datasets.{name}.rendered",
                (f"goes with source {DEMO_SOURCE} only; set it to null, or use shard.source"),
            )
    for name in config.shard.datasets or ():
        if name not in config.datasets:
            yield "shard.datasets", _unknown_dataset(name, config)
    for key, name, split in _readers(config):
        if name not in config.datasets:
            yield f"{key}.dataset", _unknown_dataset(name, config)
        elif split not in config.datasets[name].split_names:
            known = ", ".join(config.datasets[name].split_names)
            yield key, f"dataset '{name}' has no split '{split}'; it has: {known}"


def _readers(config: PipelineConfig) -> Iterator[tuple[str, str, str]]:
    """(dotted key, dataset, split) of every place that reads a dataset."""
    for name, split in config.trained_splits:
        yield "train", name, split
    for number in range(len(config.evaluate.cells)):
        for name, split in config.cell_splits(number):
            yield f"evaluate.cells.{number}", name, split
    if config.evaluate.supervised is not None:
        supervised = config.evaluate.supervised
        yield "evaluate.supervised", supervised.dataset, supervised.split


def _unknown_dataset(name: str, config: PipelineConfig) -> str:
    return f"no dataset '{name}' in this recipe; it has: {', '.join(config.datasets)}"


def _schedule_problems(config: PipelineConfig) -> Iterator[tuple[str, str]]:
    train, optimizer = config.train, config.train.optimizer
    cosine_epochs = optimizer.schedule_epochs or train.epochs
    if cosine_epochs < train.epochs:
        yield (
            "train.optimizer.schedule_epochs",
            f"{cosine_epochs:g} ends before train.epochs={train.epochs} do",
        )
    if optimizer.warmup_epochs > cosine_epochs:
        yield (
            "train.optimizer.warmup_epochs",
            f"{optimizer.warmup_epochs:g} is longer than the schedule of {cosine_epochs:g} epochs",
        )
    if train.global_batch_clips % train.micro_batch_clips:
        yield (
            "train.micro_batch_clips",
            f"train.global_batch_clips={train.global_batch_clips} is not a multiple of "
            f"{train.micro_batch_clips}",
        )


def _place_problems(config: PipelineConfig) -> Iterator[tuple[str, str]]:
    if not config.is_local and not config.root_uri.startswith("s3://"):
        yield "root_uri", f"{config.root_uri}: a store is a folder or s3://bucket/prefix"
    if not config.is_local and config.launch.cluster == "slurm" and config.work_dir is None:
        yield "work_dir", "name a folder that all nodes share; the store is no folder"
