"""The index of a sharded split: one row per sample, enough to read any sample by one range.

Written once, by the shard job, as ``index.parquet`` beside ``manifest.json``; read by loaders and
benchmarks. The manifest is put last, so a split without one does not exist yet.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.data_prep.hot_columns import ChosenColumns, ClipSource, HotColumns
from sigma_pipeline.data_prep.hot_index import FORMAT, MappedColumns, made_once, write_hot
from sigma_pipeline.data_prep.hot_packing import pack, pack_rows
from sigma_pipeline.data_prep.rows import ParquetRows, SampleRow, rows_table
from sigma_pipeline.infra.errors import MissingInputError, StageError
from sigma_pipeline.infra.identity import fingerprint
from sigma_pipeline.infra.storage import Storage, read_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetRef:
    """One immutable version of one split of a dataset."""

    name: str
    split: str
    version: str

    @property
    def prefix(self) -> str:
        """The store folder that holds it."""
        return f"datasets/{self.name}/{self.split}/{self.version}"

    @property
    def manifest_key(self) -> str:
        """The object whose presence says that the split is complete."""
        return f"{self.prefix}/manifest.json"

    @property
    def index_key(self) -> str:
        """Where the rows lie."""
        return f"{self.prefix}/index.parquet"

    @property
    def ledger_key(self) -> str:
        """Where the files that were left out are listed."""
        return f"{self.prefix}/rejected.parquet"


class Index:
    """The samples of one split, in the order of their shards. Picklable."""

    def __init__(
        self,
        ref: DatasetRef,
        classes: Sequence[str],
        root_hash: str,
        rows: Sequence[SampleRow],
        hot: HotColumns | ChosenColumns | None = None,
    ) -> None:
        """Takes what the manifest and ``index.parquet`` say; ``load`` reads them.

        Args:
            ref: the split.
            classes: of the manifest.
            root_hash: of the manifest.
            rows: may be read from disk whenever one is asked for.
            hot: what is asked for often, of the same rows; made from ``rows`` when absent.
        """
        self.ref = ref
        self.classes = tuple(classes)
        """Names of the labels of all splits: ``classes[row.label] == row.class_name``."""
        self.root_hash = root_hash
        self.rows = rows
        """All columns. Slow for a row here and there of a large split: see ``source``."""
        if hot is None:
            hot = HotColumns(pack(rows_table(rows).to_batches()), ref.prefix)
        self._hot = hot

    @classmethod
    def load(cls, storage: Storage, ref: DatasetRef, cache_dir: Path | None = None) -> Self:
        """Opens the index of a complete split.

        Args:
            storage: the store.
            ref: the split.
            cache_dir: folder on the node's disk; the index is brought there once, and its processes
                share it. Without, each process reads it into its memory: for small splits.

        Raises:
            MissingInputError: the split has not been sharded to the end.
            StageError: the index does not hold what the manifest says.
        """
        manifest = _read_manifest(storage, ref)
        if cache_dir is None:
            rows = ParquetRows(storage.read(ref.index_key))
            _check_count(storage, ref, rows, manifest)
            hot = HotColumns(pack_rows(rows), ref.prefix)
        else:
            path = _bring(storage, ref, manifest, cache_dir / "index")
            rows = ParquetRows(path.with_suffix(".parquet"))
            hot = MappedColumns(path, ref.prefix)
        return cls(ref, manifest["classes"], manifest["root_hash"], rows, hot)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._hot)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class number of each sample, shape [samples]; -1 where there is none."""
        return self._hot.labels

    @property
    def samples_per_shard(self) -> NDArray[np.int64]:
        """Shape [shards]: how many there are of each shard that has any, in their order."""
        return self._hot.samples_per_shard

    def source(self, i: int) -> ClipSource:
        """What planning and reading a clip of sample ``i`` needs; quick for any sample."""
        return self._hot.source(i)

    def frame_files(self, i: int) -> list[tuple[int, int]]:
        """Offset and size in the tar of each frame of sample ``i``, where frames are files."""
        return self._hot.frame_files(i)

    def row(self, i: int) -> SampleRow:
        """All that is known of sample ``i``; may read thousands of rows for it."""
        return self.rows[i]

    def places(self, keys: Collection[str]) -> dict[str, int]:
        """The number of the sample of each of ``keys``, as far as they are there."""
        rows, wanted = self.rows, set(keys)
        all_keys = rows.keys() if isinstance(rows, ParquetRows) else (row.key for row in rows)
        return {key: number for number, key in enumerate(all_keys) if key in wanted}

    def annotations(self) -> Iterator[str | None]:
        """Of each sample, in their order."""
        rows = self.rows
        if isinstance(rows, ParquetRows):
            return rows.annotations()
        return (row.annotation for row in rows)

    def has_labels(self) -> bool:
        """Whether any sample has a class, or several."""
        rows = self.rows
        if isinstance(rows, ParquetRows):
            return rows.has_labels()
        return any(row.label is not None or row.labels for row in rows)

    def has_masks(self) -> bool:
        """Whether any sample has an object mask."""
        rows = self.rows
        if isinstance(rows, ParquetRows):
            return rows.has_masks()
        return any(row.mask_members for row in rows)

    def part(self, samples: Sequence[int]) -> Self:
        """An index of just these samples, as the split has them in that order.

        It reads nothing, and other processes get little more than which samples they are.

        Raises:
            IndexError: there is no such sample.
        """
        narrow = np.min_scalar_type(len(self))
        positions = np.arange(len(self), dtype=narrow)[np.asarray(samples, dtype=np.int64)]
        rows = self.rows
        if isinstance(rows, ParquetRows):
            rows = rows.part(positions)
        else:
            rows = [rows[i] for i in positions.tolist()]
        hot = self._hot.part(positions)
        return type(self)(self.ref, self.classes, self.root_hash, rows, hot)

    def read_media(self, storage: Storage, i: int) -> bytes:
        """The video file of sample ``i``.

        Raises:
            StageError: the tar is shorter than the index says.
        """
        source = self.source(i)
        return self._read_range(storage, i, source.media_offset, source.media_size)

    def read_masks(self, storage: Storage, i: int) -> list[tuple[int, bytes]]:
        """(frame number, PNG file) of each object mask of sample ``i``, by frame; often none.

        Raises:
            StageError: the tar is shorter than the index says.
        """
        masks = self.rows[i].mask_members
        if not masks:
            return []
        # The masks of a sample lie side by side, so that one read brings them all.
        start = min(member.offset for _, member in masks)
        end = max(member.offset + member.size for _, member in masks)
        data = self._read_range(storage, i, start, end - start)
        return [
            (frame, data[member.offset - start : member.offset - start + member.size])
            for frame, member in masks
        ]

    def _read_range(self, storage: Storage, i: int, start: int, length: int) -> bytes:
        key = self.source(i).tar
        data = storage.read(key, start, length)
        if len(data) != length:
            raise StageError(
                f"{storage.uri(key)} ends before sample {self.rows[i].key!r} does; rebuild it "
                "with: sigma-pipeline run --stage shard --force"
            )
        return data


def _read_manifest(storage: Storage, ref: DatasetRef) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = read_json(storage, ref.manifest_key)
    except FileNotFoundError as error:
        raise MissingInputError(
            f"dataset {ref.name!r}, split {ref.split!r}, is not there yet ({error}); "
            "make it with: sigma-pipeline run --stage shard; where that failed, see why "
            "with: sigma-pipeline logs --stage shard"
        ) from error
    return manifest


def _bring(storage: Storage, ref: DatasetRef, manifest: dict[str, Any], folder: Path) -> Path:
    """The file of the hot columns in ``folder``, made there first by whoever comes first.

    The rows lie beside it, under the same name. It follows from the whole manifest: the root hash
    alone is the same for a split that was made again, but its tars have other names then.
    """
    content = {"format": FORMAT, "dataset": asdict(ref), "manifest": manifest}
    path = folder / f"{fingerprint(content)}.arrow"
    made_once(path, lambda: _make(storage, ref, manifest, path))
    return path


def _make(storage: Storage, ref: DatasetRef, manifest: dict[str, Any], path: Path) -> None:
    log.info("bringing the index of %s to this node once, into %s", ref.prefix, path)
    copy = path.with_suffix(".parquet")
    storage.download(ref.index_key, copy)
    rows = ParquetRows(copy)
    _check_count(storage, ref, rows, manifest)
    write_hot(path, pack_rows(rows))


def _check_count(
    storage: Storage, ref: DatasetRef, rows: ParquetRows, manifest: dict[str, Any]
) -> None:
    if len(rows) != manifest["samples"]:
        raise StageError(
            f"{storage.uri(ref.index_key)} has {len(rows)} rows, but its manifest says "
            f"{manifest['samples']}; rebuild it with: sigma-pipeline run --stage shard --force"
        )
