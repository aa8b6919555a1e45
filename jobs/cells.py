"""Cells: one benchmark on one dataset with one seed, on one encoder; and where their scores lie.

A cell is done once its JSON file is there. Its name carries the fingerprint of everything the
scores depend on, so changed settings make another cell and never overwrite one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from pydantic import TypeAdapter

from sigma_pipeline.data_prep.config import AnyViewConfig, ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.identity import fingerprint
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.benchmarks.benchmark import Cost, Score
from sigma_pipeline.jobs.config import Pooling, Precision
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.jobs.evaluate_request import evaluate_folder

_VIEW: TypeAdapter[AnyViewConfig] = TypeAdapter(AnyViewConfig)


@dataclass(frozen=True)
class Trial:
    """What is measured, whatever the encoder and the seed: a benchmark, its settings, its data."""

    benchmark: str
    version: int
    settings: Mapping[str, Any]
    """All of them, defaults included."""
    train: DatasetRef | None
    """None for benchmarks that learn nothing."""
    test: DatasetRef
    view: ViewConfig
    """Of the test split; a training split is seen through its single form."""
    clips_version: int | None
    """None for benchmarks that cut no clips as ``view`` says."""
    features_version: int | None
    """None for benchmarks that work with the encoder itself."""
    pooling: Pooling | None
    """None for benchmarks that read no pooled features."""
    precision: Precision
    examples: int | None = None
    """Wanted of the training split; None: all."""

    @property
    def fingerprint(self) -> str:
        """Equal for trials whose scores can be compared."""
        plain = self.to_plain()
        if self.examples is None:
            del plain["examples"]  # so that cells of earlier releases stay done
        return fingerprint(plain)

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.test.name

    @property
    def refs(self) -> tuple[DatasetRef, ...]:
        """The splits it reads: training first, if it reads that, then test."""
        return (self.test,) if self.train is None else (self.train, self.test)

    def to_plain(self) -> dict[str, Any]:
        """The trial as JSON takes it."""
        return {**asdict(self), "view": self.view.model_dump(mode="json")}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The trial that ``to_plain`` turned into JSON."""
        changed = {
            "train": None if plain["train"] is None else DatasetRef(**plain["train"]),
            "test": DatasetRef(**plain["test"]),
            "view": _VIEW.validate_python(plain["view"]),
        }
        return cls(**{**plain, **changed})


@dataclass(frozen=True)
class Cell:
    """One trial of one encoder with one seed."""

    run_name: str
    source: EncoderSource
    trial: Trial
    seed: int

    @property
    def fingerprint(self) -> str:
        """Of everything the scores depend on."""
        return fingerprint(
            {
                "trial": self.trial.fingerprint,
                "weights": self.source.weights_sha256,
                "shape": self.source.shape,
                "seed": self.seed,
            }
        )

    @property
    def stem(self) -> str:
        """What the keys of all files of this cell begin with."""
        trial = self.trial
        folder = f"{evaluate_folder(self.run_name)}/{self.source.name}"
        return f"{folder}/{trial.benchmark}/{trial.dataset}/{self.seed}-{self.fingerprint}"

    @property
    def key(self) -> str:
        """Where the scores lie, once there are any."""
        return f"{self.stem}.json"

    def folder(self, attempt: str) -> str:
        """Where an attempt keeps what is neither scores nor outcomes."""
        return f"{self.stem}.{attempt}"

    @property
    def failure_key(self) -> str:
        """Where the error of the last failure lies, until the cell succeeds."""
        return f"{self.stem}.failure"

    def __str__(self) -> str:
        """For people."""
        trial = self.trial
        return f"{trial.benchmark} on {trial.dataset}, {self.source.name}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """What is kept of a finished cell."""

    fingerprint: str
    encoder: str
    step: int
    weights_sha256: str
    trial: Trial
    seed: int
    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    """Remarks on the scores, such as a setting that had to be capped."""
    cost: Cost
    seconds: float
    gpus: float
    """That its task held for so long."""
    outcomes: str
    """Key of the parquet file with the outcome of each sample."""
    files: tuple[str, ...]
    """Keys of all else that is kept: predictions, pictures."""
    attempt: str

    def to_plain(self) -> dict[str, Any]:
        """The record as JSON takes it."""
        return {**asdict(self), "trial": self.trial.to_plain()}

    @classmethod
    def read(cls, storage: Storage, cell: Cell) -> Self | None:
        """The record of ``cell``; None while it is not done."""
        try:
            plain = read_json(storage, cell.key)
        except FileNotFoundError:
            return None
        changed = {
            "trial": Trial.from_plain(plain["trial"]),
            "scores": tuple(Score(**score) for score in plain["scores"]),
            "notes": tuple(plain["notes"]),
            "files": tuple(plain["files"]),
        }
        return cls(**{**plain, **changed})
