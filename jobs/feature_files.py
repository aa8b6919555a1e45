"""What the files of a set of features are called, and what those say that speak of others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np

INDEX_FILE = "index.json"
PART = "part-"
_PLAN = "plan-"


@dataclass(frozen=True)
class StoredArray:
    """One ``.npy`` file."""

    file: str
    """Name beside the index."""
    sha256: str
    shape: tuple[int, ...]
    """[samples of the part, ...]."""
    dtype: str

    @property
    def num_bytes(self) -> int:
        """Size of its numbers."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The array that ``asdict`` and JSON turned into plain data."""
        return cls(**{**plain, "shape": tuple(plain["shape"])})


@dataclass(frozen=True)
class Part:
    """Arrays of the samples from ``first`` to before ``last``."""

    first: int
    last: int
    arrays: Mapping[str, StoredArray]
    """By name: ``pooled``, ``tokens-1``."""

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The part that ``asdict`` and JSON turned into plain data."""
        arrays = {name: StoredArray.from_plain(one) for name, one in plain["arrays"].items()}
        return cls(plain["first"], plain["last"], arrays)


@dataclass(frozen=True, kw_only=True)
class FeatureIndex:
    """All there is of the features of one split, seen through one view, by one encoder."""

    about: Mapping[str, Any]
    """What they are of, for people."""
    num_samples: int
    num_classes: int
    samples_file: str
    samples_sha256: str
    parts: tuple[Part, ...]

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The index that ``asdict`` and JSON turned into plain data."""
        return cls(**{**plain, "parts": tuple(Part.from_plain(part) for part in plain["parts"])})

    @property
    def files(self) -> set[str]:
        """Names of all files that it stands for."""
        arrays = {array.file for part in self.parts for array in part.arrays.values()}
        return {self.samples_file, *arrays}


@dataclass(frozen=True)
class FeaturePlan:
    """What is said of features before there are any."""

    attempt: str
    """Which began them; these sort by time."""
    num_bytes: int
    """Of all arrays, once they are complete."""

    @property
    def file(self) -> str:
        """Its name."""
        return f"{_PLAN}{self.attempt}.{self.num_bytes}"

    @classmethod
    def newest(cls, files: Iterable[str]) -> Self | None:
        """The plan of the last attempt, by the names of all files of a folder."""
        plans = [file.removeprefix(_PLAN) for file in files if is_plan(file)]
        if not plans:
            return None
        attempt, _, num_bytes = max(plans).rpartition(".")
        return cls(attempt, int(num_bytes))


def is_plan(file: str) -> bool:
    """Whether a file of this name is a ``FeaturePlan``."""
    return file.startswith(_PLAN)


def is_receipt(file: str) -> bool:
    """Whether a file of this name says that a ``Part`` is there."""
    return file.startswith(PART) and file.endswith(".json")
