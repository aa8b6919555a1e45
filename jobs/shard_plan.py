"""What sharding a dataset would do: splits, versions and units of work, from names and sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_pipeline.data_prep.catalogues import Listing, list_items
from sigma_pipeline.data_prep.config import DatasetConfig, RenderedConfig, ShardConfig
from sigma_pipeline.data_prep.demo import demo_folder, render
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.ledger import LedgerRow
from sigma_pipeline.data_prep.sample import SampleSettings
from sigma_pipeline.data_prep.units import assign_units
from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.identity import fingerprint

FORMAT_VERSION = 5
"""Raised when the same source and settings give other tars or index rows."""
_DEMO_SOURCE = "demo://"


@dataclass(frozen=True)
class SplitPlan:
    """One split: its version, and the content of each shard."""

    ref: DatasetRef
    units: Sequence[tuple[Item, ...]]
    left_out: Sequence[LedgerRow]
    """Files that are not opened."""

    @property
    def num_videos(self) -> int:
        """Files that will be opened."""
        return sum(map(len, self.units))

    @property
    def source_bytes(self) -> int:
        """Their sizes with those of their sidecars."""
        return sum(item.source_bytes for unit in self.units for item in unit)


@dataclass(frozen=True)
class DatasetPlan:
    """What a dataset would become; for a dry run and for running."""

    name: str
    splits: tuple[SplitPlan, ...]
    classes: tuple[str, ...]
    settings: dict[str, Any]
    """What, with the source list, makes a version."""
    sample_settings: SampleSettings
    max_rejected_fraction: float | None
    """The dataset's own limit, if it has one."""
    scratch_dir: Path

    @property
    def versions(self) -> dict[str, str]:
        """Version by split."""
        return {split.ref.split: split.ref.version for split in self.splits}

    @property
    def refs(self) -> dict[str, DatasetRef]:
        """Where each split will lie."""
        return {split.ref.split: split.ref for split in self.splits}


def plan_dataset(
    name: str, dataset: DatasetConfig, shard: ShardConfig, scratch_dir: Path
) -> DatasetPlan:
    """Lists the source and cuts it into shards; renders the demo set first where it is asked for.

    Raises:
        MissingInputError: a source, the annotations or a list is not there, or no video is.
        ConfigError: a source is a file, or a list or an option says what cannot be.
    """
    listing = _listing(name, dataset, scratch_dir)
    settings = {
        "format": FORMAT_VERSION,
        "media": dataset.media,
        "check": dataset.check,
        "transcode": dataset.transcode and dataset.transcode.model_dump(mode="json"),
        "min_frames": dataset.min_frames,
        "limits": dataset.limits.model_dump(mode="json"),
        "sidecars": dataset.sidecars,
        "samples_per_shard": shard.samples_per_shard,
        "bytes_per_shard": shard.bytes_per_shard,
    }
    return DatasetPlan(
        name=name,
        splits=tuple(_plan_split(name, split, listing, settings) for split in dataset.split_names),
        classes=listing.classes,
        settings=settings,
        sample_settings=SampleSettings(
            dataset.min_frames, dataset.transcode, dataset.limits, dataset.check
        ),
        max_rejected_fraction=dataset.max_rejected_fraction,
        scratch_dir=scratch_dir,
    )


def _listing(name: str, dataset: DatasetConfig, scratch_dir: Path) -> Listing:
    if dataset.annotations and not Path(dataset.annotations).expanduser().is_dir():
        raise MissingInputError(
            f"annotations {dataset.annotations!r} is not a folder; set datasets.{name}.annotations "
            "to the folder of the dataset's lists"
        )
    roots = [_root(source, dataset, scratch_dir) for source in dataset.sources]
    try:
        return list_items(dataset, roots)
    except ConfigError as error:
        raise ConfigError(f"datasets.{name}: {error}") from error


def _root(source: str, dataset: DatasetConfig, scratch_dir: Path) -> Path:
    if source != _DEMO_SOURCE:
        return Path(source).expanduser()
    rendered = dataset.rendered or RenderedConfig()
    folder = demo_folder(rendered, scratch_dir)
    render(rendered, folder)
    return folder


def _plan_split(name: str, split: str, listing: Listing, settings: dict[str, Any]) -> SplitPlan:
    items = [item for item in listing.items if item.split == split]
    sources = [
        (
            item.name,
            [(file.name, file.size) for file in (*item.files, *item.sidecars)],
            (item.class_name, item.label, item.labels, item.group),
            item.segment,
            item.annotation,
        )
        for item in items
    ]
    version = fingerprint(
        {"settings": settings, "split": split, "classes": listing.classes, "sources": sources}
    )
    units = assign_units(
        items,
        samples_per_shard=settings["samples_per_shard"],
        bytes_per_shard=settings["bytes_per_shard"],
    )
    return SplitPlan(DatasetRef(name, split, version), tuple(units), listing.left_out[split])
