"""Features as arrays in the store: parts of bounded size, and an index that says what counts.

    plan-<attempt>.<bytes>                       put first: since when, and how large it will be
    part-00004096.<attempt>.pooled.npy           an array of the samples from 4096 on
    part-00004096.json                           receipt of these: put once all their arrays are
    samples.<attempt>.parquet                    key, group and label of each sample
    index.json                                   put last: names all files, with their sha256

Receipts and the index are put if absent, and the loser of a race adopts the winner's; so whoever
comes after an attempt that was killed goes on with the first part that has no receipt. What neither
of them names is of no use. Each attempt puts a plan; all it says is in its name, so that a listing
tells the sizes of many sets.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sigma_pipeline.data_prep.rows import table_bytes
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.storage import Storage, read_json, write_json_if_absent
from sigma_pipeline.jobs.feature_files import (
    INDEX_FILE,
    PART,
    FeatureIndex,
    FeaturePlan,
    Part,
    StoredArray,
    is_plan,
    is_receipt,
)

Arrays = Mapping[str, npt.NDArray[Any]]


class LostFeatures(StageError):  # noqa: N818 - says what happened to them
    """Features are not there any more, or not as they were put; to be extracted again."""


class FeatureFolder:
    """The files of one set of features, written by one attempt or read."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage = storage
        self._folder = folder
        self._attempt = new_attempt()

    def plan(self, num_bytes: int) -> None:
        """Says that this attempt makes features here."""
        self._storage.write(self._key(FeaturePlan(self._attempt, num_bytes).file), b"")

    def index(self) -> FeatureIndex:
        """What there is.

        Raises:
            LostFeatures: it is not complete, or not any more.
        """
        try:
            return FeatureIndex.from_plain(read_json(self._storage, self._key(INDEX_FILE)))
        except FileNotFoundError as error:
            raise LostFeatures(f"{self._storage.uri(self._folder)} is not complete") from error

    def finished_parts(self) -> list[Part]:
        """Those that have a receipt, by their first sample.

        Raises:
            LostFeatures: somebody removes them just now.
        """
        try:
            return [
                Part.from_plain(read_json(self._storage, self._key(name)))
                for name in self._names()
                if is_receipt(name)
            ]
        except FileNotFoundError as error:
            raise LostFeatures(f"{self._storage.uri(self._folder)} is being removed") from error

    def put_part(self, samples: range, arrays: Arrays) -> None:
        """Adds arrays of these samples, [samples, ...] by name."""
        first = samples.start
        stored = {name: self._put_array(first, name, array) for name, array in arrays.items()}
        part = Part(first, samples.stop, stored)
        if not write_json_if_absent(self._storage, self._receipt(part), asdict(part)):
            self._delete(array.file for array in stored.values())  # another was first

    def finish(
        self, samples: Mapping[str, Any], num_classes: int, about: Mapping[str, Any]
    ) -> None:
        """Puts the index over all parts, and clears away what it does not name.

        Args:
            samples: columns of equal length: ``key``, ``group``, ``label``.
            num_classes: of the labels.
            about: for people.

        Raises:
            LostFeatures: parts are missing, as somebody removed them meanwhile.
        """
        parts = tuple(self.finished_parts())
        _check_cover(parts, len(samples["key"]), self._storage.uri(self._folder))
        data = table_bytes(pa.table(dict(samples)))
        index = FeatureIndex(
            about=about,
            num_samples=len(samples["key"]),
            num_classes=num_classes,
            samples_file=f"samples.{self._attempt}.parquet",
            samples_sha256=_sha256(data),
            parts=parts,
        )
        self._storage.write(self._key(index.samples_file), data)
        # Once more: a set whose plan somebody removed meanwhile would be counted by nobody.
        self.plan(sum(array.num_bytes for part in parts for array in part.arrays.values()))
        write_json_if_absent(self._storage, self._key(INDEX_FILE), asdict(index))
        self._clear_away(self.index())

    def samples(self, index: FeatureIndex) -> pa.Table:
        """Columns ``key``, ``group`` and ``label``, one row per sample.

        Raises:
            LostFeatures: the file is not there, or not as it was put.
        """
        data = self._read(index.samples_file, index.samples_sha256)
        return pq.read_table(io.BytesIO(data))

    def _parts_of(self, index: FeatureIndex, name: str) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """An array part by part: which samples, and [samples of the part, ...].

        Raises:
            LostFeatures: a file is not there, or not as it was put; its receipt is withdrawn, so
                that who extracts again makes just that part anew.
        """
        for part in index.parts:
            stored = part.arrays[name]
            try:
                data = self._read(stored.file, stored.sha256)
            except LostFeatures:
                self._withdraw(part)
                raise
            yield slice(part.first, part.last), np.load(io.BytesIO(data), allow_pickle=False)

    def array(self, index: FeatureIndex, name: str) -> npt.NDArray[Any]:
        """An array whole, [samples, ...]; no more than it and one part are in memory.

        Raises:
            LostFeatures: a file is not there, or not as it was put.
        """
        stored = index.parts[0].arrays[name]
        whole = np.empty((index.num_samples, *stored.shape[1:]), np.dtype(stored.dtype))
        for rows, array in self._parts_of(index, name):
            whole[rows] = array
        return whole

    def delete(self) -> None:
        """Removes all files: first what says that they count, last what says how large they are.

        What others add meanwhile, as they find no index any more, is left to them.
        """
        names = self._names()
        receipts = list(filter(is_receipt, names))
        plans = list(filter(is_plan, names))
        others = set(names).difference(receipts, plans, [INDEX_FILE])
        self._delete([INDEX_FILE, *receipts, *others, *plans])

    def _put_array(self, first: int, name: str, array: npt.NDArray[Any]) -> StoredArray:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        data = buffer.getvalue()
        file = f"{PART}{first:08d}.{self._attempt}.{name}.npy"
        self._storage.write(self._key(file), data)
        return StoredArray(file, _sha256(data), array.shape, array.dtype.str)

    def _read(self, file: str, sha256: str) -> bytes:
        key = self._key(file)
        try:
            data = self._storage.read(key)
        except FileNotFoundError as error:
            self._storage.delete(self._key(INDEX_FILE))
            raise LostFeatures(f"{self._storage.uri(key)} is not there any more") from error
        if _sha256(data) != sha256:
            self._storage.delete(self._key(INDEX_FILE))
            raise LostFeatures(
                f"{self._storage.uri(key)} is damaged: its bytes are not those that were written"
            )
        return data

    def _withdraw(self, part: Part) -> None:
        """Takes back the receipt of a part, unless the part was made anew meanwhile."""
        try:
            is_same = Part.from_plain(read_json(self._storage, self._receipt(part))) == part
        except FileNotFoundError:
            return
        if is_same:
            self._storage.delete(self._receipt(part))

    def _clear_away(self, index: FeatureIndex) -> None:
        names = self._names()
        plan = FeaturePlan.newest(names)
        kept = {INDEX_FILE, *index.files, *([plan.file] if plan else [])}
        self._delete(name for name in names if name not in kept and not is_receipt(name))

    def _names(self) -> list[str]:
        """Of all files, sorted."""
        return [key.rpartition("/")[2] for key in self._storage.list(self._folder)]

    def _delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._storage.delete(self._key(name))

    def _receipt(self, part: Part) -> str:
        return self._key(f"{PART}{part.first:08d}.json")

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"


def _check_cover(parts: Iterable[Part], num_samples: int, place: str) -> None:
    """Refuses parts that are not all samples, each once."""
    end = 0
    for part in parts:
        if part.first != end:
            break
        end = part.last
    if end != num_samples:
        raise LostFeatures(f"{place}: the features from sample {end} on are not there any more")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
