"""What a benchmark is: a named, versioned protocol from an encoder and a dataset to scores.

Most see arrays only: features that were extracted once and are shared (``FeatureBenchmark``). What
cannot be said with features of whole clips works with the frozen encoder itself
(``EncoderBenchmark``). An instance holds its settings, so that these are checked when it is built
and fingerprinted by ``model_dump``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.jobs.benchmarks.figures import Figure

if TYPE_CHECKING:
    from sigma_pipeline.data_prep.index import Index
    from sigma_pipeline.infra.storage import Storage
    from sigma_pipeline.jobs.benchmarks.gang import Gang
    from sigma_pipeline.jobs.config import Pooling, Precision
    from sigma_pipeline.jobs.encoders import EncoderSource
    from sigma_pipeline.model.encoder import Encoder

Cost = Literal["cheap", "dear"]
"""``cheap``: minutes, on every commit; ``dear``: trains through the encoder, hours."""

VOID_ID = 255
"""Pixels of this object id are in no class and are not scored (DAVIS's convention)."""


@dataclass(frozen=True)
class Score:
    """One number with its unit and a 95% interval over the samples it was taken on."""

    name: str
    value: float
    unit: str
    higher_is_better: bool
    low: float
    high: float
    samples: int


@dataclass(frozen=True)
class Needs:
    """What a benchmark asks of a dataset and of the encoder."""

    train: bool = False
    """Reads the training split too."""
    labels: bool = False
    all_labels: bool = False
    """Reads every class of a sample, where there may be several; where each has one, that one."""
    groups: bool = False
    """Reads one split, as train and as test, whose samples say what group they belong to."""
    masks: bool = False
    boxes: bool = False
    """Reads boxes of persons and what they do, second by second."""
    cycles: bool = False
    """Reads between which frames the cycles of a repeated action lie."""
    tokens: bool = False
    """Reads per-token features of the test split, not only one vector per clip."""
    layer: int = -1
    """Whose tokens: -1 the last block's, after the final norm; -2 the block before it, and so on,
    as they are."""
    encoder: bool = False
    """Is an ``EncoderBenchmark``."""
    trains: bool = False
    """Trains through the encoder, in processes of its own: ``Subject.gang``."""
    pooled: bool = True
    """Reads features that are pooled as a recipe says. Where not, its scores are the same however
    they are pooled, and stay when a recipe changes that."""
    clips: bool = True
    """Reads clips that are cut as a recipe says. Where not, as with ``pooled``."""
    view: ViewConfig = field(default_factory=ViewConfig)
    """The protocol's view, where a recipe says nothing of views. What it sets is the protocol; what
    is left to defaults may be anything."""


@dataclass(frozen=True)
class ObjectMasks:
    """What is known to be where in the clips of a split, sample by sample."""

    ids: npt.NDArray[np.uint8]
    """[samples, frames, height, width]: object ids, 0 background, ``VOID_ID`` not annotated."""
    frames: npt.NDArray[np.int64]
    """[samples, frames]: their numbers in the sample."""
    categories: Sequence[Mapping[int, str]]
    """What the objects of each sample are, by id, as far as its annotation says."""
    names: Sequence[str]
    """Of the samples, as folders of results."""


@dataclass(frozen=True)
class FeatureSet:
    """What a frozen encoder says about one split, sample by sample, in the order of its index."""

    keys: Sequence[str]
    groups: Sequence[str | None]
    """What samples of one origin (performer, scene, source video) have in common."""
    labels: npt.NDArray[np.int64]
    """[samples]; -1: none."""
    num_classes: int
    pooled: npt.NDArray[np.float32]
    """[samples, views, dim]; one view of each sample, unless the cell's view has several."""
    tokens: npt.NDArray[np.float16] | None = None
    """[samples, slices, rows, columns, dim]."""
    masks: ObjectMasks | None = None

    @property
    def num_samples(self) -> int:
        """Samples of the split."""
        return len(self.keys)

    def part(self, is_part: npt.NDArray[np.bool_]) -> "FeatureSet":
        """The samples that ``is_part`` [samples] marks; tokens and masks are left behind."""
        if is_part.all():  # gigabytes that need not be copied
            return replace(self, tokens=None, masks=None)
        kept = np.flatnonzero(is_part)
        return replace(
            self,
            keys=[self.keys[i] for i in kept.tolist()],
            groups=[self.groups[i] for i in kept.tolist()],
            labels=self.labels[kept],
            pooled=self.pooled[kept],
            tokens=None,
            masks=None,
        )


@dataclass(frozen=True)
class Result:
    """Scores of one cell, the outcome of each sample they rest on, and remarks for the reader."""

    scores: tuple[Score, ...]
    outcomes: Mapping[str, Sequence[Any]]
    """Columns of equal length, one row per scored sample.

    Encoders are compared by them, so their names are fixed: ``key``, always; ``group``, where
    samples of one origin vary together; a column named as a score, whose mean that score is;
    ``label`` and ``prediction`` of one class, ``labels`` and ``scores`` (lists) of several."""
    notes: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    """More that is kept beside the scores, by relative path: ``predictions/bear/00000.png``."""
    figures: tuple[Figure, ...] = ()
    """What is worth looking at; drawn by others, who have the videos."""


class Benchmark(Protocol):
    """A protocol with its settings (a frozen pydantic model)."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised whenever an equal encoder would no longer give equal scores."""
    cost: ClassVar[Cost]
    summary: ClassVar[str]
    """One line for lists."""

    @property
    def needs(self) -> Needs:
        """What these settings ask for."""
        ...

    def model_dump(self) -> dict[str, Any]:
        """The settings, for fingerprints and receipts."""
        ...


@runtime_checkable
class FeatureBenchmark(Benchmark, Protocol):
    """One that sees features alone."""

    def scores(self, train: FeatureSet | None, test: FeatureSet, seed: int) -> Result:
        """Scores ``test``; ``train`` is given when, and only when, ``needs.train``.

        Raises:
            ValueError: the data cannot carry this protocol (no labelled sample, for example).
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is under test, for a benchmark that works with the encoder itself."""

    encoder: "Encoder"
    """In evaluation mode, on the CPU; its weights must come to no change that others see."""
    storage: "Storage"
    train: "Index | None"
    """Given when, and only when, ``needs.train``."""
    test: "Index"
    view: ViewConfig
    pooling: "Pooling | None"
    """Given when, and only when, ``needs.pooled``."""
    precision: "Precision"
    """Of the encoder."""
    batch_clips: int
    scratch_dir: Path
    """On the node's own disk."""
    work_dir: Path
    """That all nodes share."""
    source: "EncoderSource"
    """Where the encoder's weights lie, for other processes."""
    train_positions: tuple[int, ...] | None = None
    """What ``train`` is of its split, where it is a part of it; None: all of it."""
    gang: "Gang"
    """Where a benchmark trains that says ``needs.trains``; for others, this process alone."""
    training_name: str
    """Name of a run of this cell's own, for what it trains. Commits of an attempt that ended are
    found there by the next one; all is removed once the cell is done."""


@runtime_checkable
class EncoderBenchmark(Benchmark, Protocol):
    """One that says ``needs.encoder``."""

    def scores_of(self, subject: Subject, seed: int) -> Result:
        """Scores an encoder on ``subject.test``.

        Raises:
            ValueError: the data cannot carry this protocol.
            StageError: a sample cannot be read.
        """
        ...
