"""Looking after what the shard stage has made: listing, verifying, repairing, showing."""

import logging
from collections.abc import Callable, Iterator, Sequence
from inspect import cleandoc
from itertools import groupby
from typing import get_args

from sigma_pipeline.data_prep.catalogue_names import CatalogueName, about, default_splits
from sigma_pipeline.data_prep.catalogues import CATALOGUES, options_of
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.manifest import read_manifest
from sigma_pipeline.data_prep.receipts import Receipt, read_receipts
from sigma_pipeline.infra.errors import ConfigError, MissingInputError, StageError
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.shard_check import Fault, check_split
from sigma_pipeline.jobs.shard_plan import SplitPlan, plan_dataset
from sigma_pipeline.jobs.shard_repair import repair_split
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.table import aligned
from sigma_pipeline.pipeline.versions import resolve_refs

log = logging.getLogger(__name__)

_MB = 1e6


def chosen_splits(
    config: PipelineConfig, storage: Storage, selection: str | None
) -> list[DatasetRef]:
    """The splits of the run that ``selection`` means: ``NAME``, ``NAME/SPLIT``, or None for all.

    Raises:
        ConfigError: the recipe has no such dataset or split.
        MissingInputError: it has not been sharded.
    """
    known = [
        (name, split) for name in config.datasets for split in config.datasets[name].split_names
    ]
    wanted = [
        (name, split) for name, split in known if selection in (None, name, f"{name}/{split}")
    ]
    if not wanted:
        listed = ", ".join(f"{name}/{split}" for name, split in known)
        raise ConfigError(f"this recipe has no dataset or split {selection!r}; it has: {listed}")
    return list(resolve_refs(storage, config, wanted).values())


def describe_catalogues() -> list[str]:
    """A line for each catalogue that a recipe can name."""
    return aligned([[name, about(name)] for name in get_args(CatalogueName)], left=(0, 1))


def describe_catalogue(name: CatalogueName) -> Iterator[str]:
    """What a catalogue reads, which splits it has of its own, and what it lets one choose."""
    list_source = CATALOGUES[name]
    yield f"{name}: {about(name)}"
    text = cleandoc(list_source.__doc__ or "").partition("\n\nRaises:")[0]
    yield from ("", *text.splitlines())
    yield from ("", "Splits where the dataset names none:")
    for split, source in default_splits(name).items():
        yield f"  {split}: {source}"
    if options := options_of(list_source):
        yield from ("", "Options and their defaults (datasets.NAME.options.<option>):")
        for option, field in options.model_fields.items():
            yield f"  {option}: {field.default!r}"


def describe_datasets(storage: Storage) -> list[str]:
    """A line for each split in the store, complete or not, of any run."""
    rows = [["dataset", "split", "version", "samples", "MB", "rejected", "state"]]
    keys = sorted(storage.list("datasets"))
    for prefix, group in groupby(keys, key=lambda key: "/".join(key.split("/")[:4])):
        _, name, split, version = prefix.split("/")
        if f"{prefix}/manifest.json" in list(group):
            manifest = read_json(storage, f"{prefix}/manifest.json")
            size = f"{manifest['bytes'] / _MB:.1f}"
            numbers = [str(manifest["samples"]), size, str(manifest["rejected_counted"])]
            rows.append([name, split, version, *numbers, "complete"])
        else:
            rows.append([name, split, version, "", "", "", "not complete"])
    return aligned(rows, left=(0, 1, 2, 6)) if len(rows) > 1 else ["nothing is sharded here yet"]


def describe_shards(storage: Storage, ref: DatasetRef) -> Iterator[str]:
    """A line for each shard of a split, below one for the split."""
    manifest = read_manifest(storage, ref)
    assert manifest is not None
    yield (
        f"{storage.uri(ref.prefix)}: {manifest['samples']} samples, root hash "
        f"{manifest['root_hash']}; {manifest['rejected_counted']} inputs rejected, "
        f"{manifest['rejected'] - manifest['rejected_counted']} other files"
    )
    receipts = read_receipts(storage, ref, manifest["shards"])
    rows = [["shard", "samples", "MB", "rejected", "tar"], *map(_shard_cells, receipts)]
    yield from aligned(rows, left=(4,))


def describe_samples(index: Index) -> Iterator[str]:
    """A line for each sample of a split."""
    for row in index.rows:
        size = f"{row.media_size / _MB:.2f} MB"
        yield (
            f"{row.key}  {row.media}  {row.frames} x {row.width}x{row.height}  {size}  "
            f"{row.class_name or '-'}  {row.source}"
        )


def verify(
    config: PipelineConfig, storage: Storage, refs: Sequence[DatasetRef], *, decode: bool
) -> list[tuple[DatasetRef, list[Fault]]]:
    """What is wrong with each of ``refs``; empty lists where all is well."""
    return [
        (ref, check_split(storage, ref, decode=decode, workers=config.launch.shard.workers))
        for ref in refs
    ]


def repair(
    config: PipelineConfig, storage: Storage, refs: Sequence[DatasetRef]
) -> Iterator[tuple[DatasetRef, list[Fault]]]:
    """Makes what is broken of ``refs`` again; each with what was wrong and now is not.

    Raises:
        StageError: the source cannot give the same bytes again.
    """
    for ref in refs:
        faults = check_split(storage, ref, decode=False, workers=config.launch.shard.workers)
        if faults:
            plan = plan_dataset(
                ref.name, config.datasets[ref.name], config.shard, config.scratch_path
            )
            repair_split(storage, plan, _same_split(plan.splits, ref), faults)
        yield ref, faults


def _same_split(splits: Sequence[SplitPlan], ref: DatasetRef) -> SplitPlan:
    for split in splits:
        if split.ref == ref:
            return split
    raise StageError(
        f"{ref.name}/{ref.split} cannot be repaired: version {ref.version} was made from other "
        "source files or settings than there are now; make a new version with: sigma-pipeline run "
        "--stage shard (the same --config and --set)"
    )


def draw(
    storage: Storage, refs: Sequence[DatasetRef], key: str, load: Callable[[DatasetRef], Index]
) -> tuple[str, bytes]:
    """The full key of the sample whose key begins with ``key``, and its contact sheet (PNG).

    Raises:
        MissingInputError: no sample has such a key.
        ConfigError: several have.
    """
    found: list[tuple[Index, int, str]] = []
    for ref in refs:
        index = load(ref)
        found += [
            (index, number, row.key)
            for number, row in enumerate(index.rows)
            if row.key.startswith(key)
        ]
    if not found:
        places = ", ".join(f"{ref.name}/{ref.split}" for ref in refs)
        raise MissingInputError(
            f"no sample of {places} has a key that begins with {key!r}; list them with: "
            "sigma-pipeline shards ls --samples"
        )
    if len({full for _, _, full in found}) > 1:
        some = ", ".join(full for _, _, full in found[:5])
        raise ConfigError(f"{len(found)} keys begin with {key!r}: {some}, ...; give more of it")
    # It brings torch, which listing has no use for.
    from sigma_pipeline.jobs.contact_sheet import draw_sample

    index, number, full = found[0]
    return full, draw_sample(storage, index, number)


def _shard_cells(receipt: Receipt) -> list[str]:
    shard = receipt.shard
    size = f"{shard.size / _MB:.1f}"
    tar = receipt.tar or "none: all its items were rejected"
    return [str(receipt.number), str(len(shard.rows)), size, str(len(shard.rejected)), tar]
