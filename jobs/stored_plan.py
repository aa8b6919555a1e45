"""The plan of a dataset as files that all nodes read, so that no task has to carry or hold it.

Its units, millions of items perhaps, are one line of JSON each; a task reads those that it makes.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
from pydantic import TypeAdapter

from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.ledger import LedgerRow
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.shard_plan import FORMAT_VERSION, DatasetPlan, SplitPlan

Value = TypeVar("Value")


class Lines(Sequence[Value], Generic[Value]):
    """Values in a file, one per line; each is read when it is asked for. Pickled as a path."""

    def __init__(self, path: Path, kind: Any, version: str) -> None:
        """Opens what ``write`` wrote.

        Args:
            path: of the file; beside it, ``<path>.starts`` holds where each line starts.
            kind: type of a value, as pydantic takes it.
            version: of the split that the values belong to.
        """
        self._path, self._kind, self._version = path, kind, version

    @classmethod
    def write(cls, path: Path, kind: Any, version: str, values: Iterable[Value]) -> "Lines[Value]":
        """Writes ``values`` to a new file."""
        adapter, starts = TypeAdapter(kind), [0]
        with path.open("xb") as file:
            for number, value in enumerate(values):
                # Names that are no UTF-8 hold surrogates, which pydantic's own JSON does not take.
                line = json.dumps([version, number, adapter.dump_python(value)]).encode() + b"\n"
                starts.append(starts[-1] + file.write(line))
        np.asarray(starts, np.int64).tofile(_starts_path(path))
        return cls(path, kind, version)

    def __len__(self) -> int:
        """How many values there are."""
        return _starts_path(self._path).stat().st_size // np.int64().nbytes - 1

    @overload
    def __getitem__(self, place: int) -> Value: ...
    @overload
    def __getitem__(self, place: slice) -> "list[Value]": ...
    def __getitem__(self, place: int | slice) -> "Value | list[Value]":
        """The value at ``place``.

        Raises:
            StageError: the file holds another plan.
        """
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        return next(self._read(range(len(self))[place], 1))

    def __iter__(self) -> Iterator[Value]:
        """All values, without holding them."""
        return self._read(0, len(self))

    def _read(self, first: int, count: int) -> Iterator[Value]:
        adapter: TypeAdapter[Value] = TypeAdapter(self._kind)
        word = np.int64().nbytes
        starts = np.fromfile(
            _starts_path(self._path), np.int64, count + 1, offset=first * word
        ).tolist()
        with self._path.open("rb") as file:
            file.seek(starts[0])
            for number, (start, end) in enumerate(pairwise(starts), first):
                version, found, value = json.loads(file.read(end - start))
                if (version, found) != (self._version, number):
                    raise StageError(
                        f"{self._path} holds line {found} of version {version} where line {number} "
                        f"of {self._version} was to be; run the shard stage again"
                    )
                yield adapter.validate_python(value)


def store_plan(plan: DatasetPlan, folder: Path) -> DatasetPlan:
    """The same plan with its units in files of ``folder``, so that it can be sent to every task."""
    folder.mkdir(parents=True)
    return replace(plan, splits=tuple(_stored_split(split, folder) for split in plan.splits))


@contextmanager
def stored_plan(plan: DatasetPlan, folder: Path) -> Iterator[DatasetPlan]:
    """See ``store_plan``; the files are removed with the block."""
    try:
        yield store_plan(plan, folder)
    finally:
        for pattern in ("*.units*", "*.left_out*"):
            for path in folder.glob(pattern):
                path.unlink()


def _stored_split(split: SplitPlan, folder: Path) -> SplitPlan:
    name, version = split.ref.split, split.ref.version
    return replace(
        split,
        units=Lines.write(folder / f"{name}.units", tuple[Item, ...], version, split.units),
        left_out=Lines.write(folder / f"{name}.left_out", LedgerRow, version, split.left_out),
    )


def require_same_code(plan: DatasetPlan) -> None:
    """Refuses a plan whose shards this code would make otherwise than the version says.

    Raises:
        StageError: the code was changed since the plan was made.
    """
    made_with = plan.settings["format"]
    if made_with != FORMAT_VERSION:
        raise StageError(
            f"dataset {plan.name!r} was planned for shards of format {made_with}, but this node's "
            f"sigma-pipeline makes format {FORMAT_VERSION}; install one version on all nodes and "
            "run the shard stage again"
        )


def _starts_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.starts")
