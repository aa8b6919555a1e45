"""The columns of SEVERE (Thoker et al., ECCV 2022) as SIGMA's table has them (ECCV 2024).

Which score of which benchmark fills each of the eight, on which data; what is published; and their
mean (protocols 5.1 and 8.4). AVA stands beside them and is no part of the mean. Plain data and
arithmetic: recipes, tables and pictures all read it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Literal, Protocol

SevereColumn = Literal[
    "ssv2", "gym99", "ucf_1k", "gym_1k", "fx_s1", "ub_s1", "ucf_rc", "charades", "ava"
]

LEAST_SHARE = 0.9
"""Of the official samples that a split must have to count as the column's own: some videos are not
to be had any more. Ours."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: what is measured, on what, and by whom."""

    title: str
    factor: str
    """Which property of an encoder it is to show."""
    benchmark: str
    """The only one that fills it."""
    score: str
    """Of that benchmark."""
    data: str
    """Of whom the samples are, for people."""
    classes: int
    train: int
    """Samples in the official training list."""
    test: int
    examples: int | None = None
    """How many of the training samples are learned from; all when None."""
    is_percent: bool = True
    """Whether 100 times the score is shown; else the score, of which less is better."""
    is_extra: bool = False
    """Whether it is no part of SIGMA's table, nor of the mean."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Over the defaults of the benchmark, as the recipe ``severe`` has them."""
    view: Mapping[str, Any] | None = None
    """The same of how clips are cut; None: as the benchmark says."""

    def shown(self, value: float) -> float:
        """A score as the table has it."""
        return 100 * value if self.is_percent else value

    def text(self, shown: float) -> str:
        """A number of the table with as many digits as are published."""
        return f"{shown:.1f}" if self.is_percent else f"{shown:.3f}"

    def part_of_mean(self, shown: float) -> float:
        """What a number of the table adds to the mean: an error counts as what it is short of 1."""
        return shown if self.is_percent else 100 * (1 - shown)


_SEEN_WHOLE = {"sampling": "segments", "segments": 2, "crops": 3}

_GYM99 = Column(
    title="Gym99",
    factor="domain shift",
    benchmark="finetune",
    score="top1",
    data="Gym99 of FineGym v1.0",
    classes=99,
    train=20_484,
    test=8_521,
    view=_SEEN_WHOLE,
)

COLUMNS: Mapping[SevereColumn, Column] = {
    "ssv2": Column(
        title="SSv2",
        factor="domain shift",
        benchmark="finetune",
        score="top1",
        data="Something-Something v2",
        classes=174,
        train=168_913,
        test=24_777,
        settings={"epochs": 40, "flip_probability": 0.0},
        view=_SEEN_WHOLE,
    ),
    "gym99": _GYM99,
    "ucf_1k": Column(
        title="UCF 1k",
        factor="sample efficiency",
        benchmark="finetune",
        score="top1",
        data="the first fold of UCF101",
        classes=101,
        train=9_537,
        test=3_783,
        examples=1000,
        view={"frame_stride": 4, "segments": 5, "crops": 3},
    ),
    "gym_1k": replace(_GYM99, title="Gym 1k", factor="sample efficiency", examples=1000),
    "fx_s1": Column(
        title="FX-S1",
        factor="action granularity",
        benchmark="finetune",
        score="mean_class",
        data="FX-S1 (labels 6 to 16 of Gym99)",
        classes=11,
        train=1_882,
        test=777,
        view=_SEEN_WHOLE,
    ),
    "ub_s1": Column(
        title="UB-S1",
        factor="action granularity",
        benchmark="finetune",
        score="mean_class",
        data="UB-S1 (labels 74 to 88 of Gym99)",
        classes=15,
        train=3_511,
        test=1_471,
        view=_SEEN_WHOLE,
    ),
    "ucf_rc": Column(
        title="UCF-RC",
        factor="task shift",
        benchmark="counting",
        score="mae",
        data="UCFRep",
        classes=23,
        train=421,
        test=105,
        is_percent=False,
    ),
    "charades": Column(
        title="Charades",
        factor="task shift",
        benchmark="multilabel",
        score="map",
        data="Charades",
        classes=157,
        train=7_985,
        test=1_863,
        view={"frame_stride": 8, "segments": 10, "crops": 3},
    ),
    "ava": Column(
        title="AVA",
        factor="task shift",
        benchmark="detection",
        score="frame_map",
        data="AVA v2.2",
        classes=80,
        train=235,
        test=64,
        is_extra=True,
    ),
}
EIGHT = {name: column for name, column in COLUMNS.items() if not column.is_extra}
"""The table's, in its order."""

Values = Mapping[SevereColumn, float]
"""Numbers as the table shows them: percent, and the error of UCF-RC as it is."""


@dataclass(frozen=True)
class PublishedRow:
    """One method as published: ViT-B, pre-trained on K400."""

    method: str
    values: Values
    mean: float


def _row(method: str, *numbers: float) -> PublishedRow:
    *values, mean = numbers
    return PublishedRow(method, dict(zip(EIGHT, values, strict=True)), mean)


PUBLISHED = (
    _row("SVT", 59.5, 62.3, 83.9, 18.5, 35.4, 55.1, 0.421, 35.5, 51.0),
    _row("MVD", 70.0, 82.5, 66.7, 17.5, 31.3, 50.5, 0.184, 16.1, 52.1),
    _row("VideoMAE", 68.6, 86.6, 74.6, 25.9, 42.8, 65.3, 0.172, 12.6, 57.4),
    _row("MGMAE", 68.9, 87.2, 77.2, 24.0, 33.7, 79.5, 0.181, 17.9, 58.8),
    _row("SIGMA-MLP", 69.8, 87.4, 80.2, 26.8, 46.0, 79.7, 0.178, 20.1, 61.5),
    _row("SIGMA-DINO", 70.9, 89.7, 84.1, 28.0, 55.1, 79.9, 0.169, 23.3, 64.3),
)
"""The table of SIGMA's site, in its order."""

MEASURED_AGAIN: Values = {
    "ucf_1k": 82.9,
    "gym_1k": 27.2,
    "ucf_rc": 0.178,
    "charades": 22.4,
    "ava": 27.3,
}
"""SIGMA-DINO where a later re-evaluation (SEVERE++, arXiv 2504.05706) differs, or has more: about
one point of spread between two measurements of one encoder."""


def severe_mean(values: Values) -> float | None:
    """The mean of all eight columns, UCF-RC as 100 * (1 - MAE); None while any is absent."""
    if not EIGHT.keys() <= values.keys():
        return None
    return fmean(column.part_of_mean(values[name]) for name, column in EIGHT.items())


class Filling(Protocol):
    """What a recipe says of a cell, as far as it matters here."""

    @property
    def benchmark(self) -> str:
        """Its name."""
        ...

    @property
    def examples(self) -> tuple[int, ...] | None:
        """Sizes of what it learns from; None: all there is."""
        ...

    @property
    def column(self) -> SevereColumn | None:
        """Which one it is to fill."""
        ...


def column_problems(cells: Sequence[Filling]) -> Iterator[str]:
    """What is wrong with the columns that cells are to fill, each with the cell's key."""
    first: dict[SevereColumn, int] = {}
    for number, cell in enumerate(cells):
        if cell.column is None:
            continue
        key = f"cells.{number}.column={cell.column}"
        if cell.column in first:
            yield f"{key}: cells.{first[cell.column]} fills it already; remove it from one of them"
        first.setdefault(cell.column, number)
        if problem := _filling_problem(cell, COLUMNS[cell.column]):
            yield f"{key}: {problem}"


def _filling_problem(cell: Filling, column: Column) -> str | None:
    sizes, wanted = cell.examples, column.examples
    if cell.benchmark != column.benchmark:
        return (
            f"{cell.benchmark} cannot fill it, it is {column.score} of {column.benchmark}; set "
            f"benchmark: {column.benchmark}, or remove the column"
        )
    if wanted is None and sizes is not None:
        return "it learns from all training samples; remove examples, or the column"
    if wanted is not None and wanted not in (sizes or ()):
        return f"it learns from {wanted} examples; set examples: [{wanted}], alone or among others"
    return None
