"""Commands about what the shard stage reads and has made."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from sigma_pipeline.data_prep.catalogue_names import CatalogueName
from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.pipeline.cli_options import load_recipe, with_recipe

if TYPE_CHECKING:
    from sigma_pipeline.data_prep.index import DatasetRef
    from sigma_pipeline.infra.storage import Storage
    from sigma_pipeline.jobs.shard_check import Fault
    from sigma_pipeline.pipeline.config import PipelineConfig

Overrides = tuple[str, ...]
_selection = click.argument("selection", metavar="[DATASET[/SPLIT]]", required=False)


@click.command()
@click.argument(
    "catalogue", required=False, metavar="[CATALOGUE]", type=click.Choice(get_args(CatalogueName))
)
@with_recipe
def datasets(catalogue: CatalogueName | None, recipe: str | None, overrides: Overrides) -> None:
    """Lists the catalogues a recipe can name, and what is sharded in its store.

    With CATALOGUE: what that one reads.
    """
    from sigma_pipeline.infra.storage import open_storage
    from sigma_pipeline.pipeline import shard_tools

    if catalogue is not None:
        click.echo("\n".join(shard_tools.describe_catalogue(catalogue)))
        return
    config = load_recipe(recipe, overrides)
    click.echo("Catalogues (more of one: sigma-pipeline datasets CATALOGUE):")
    _echo_indented(shard_tools.describe_catalogues())
    click.echo(f"\nSharded in {config.root_uri}:")
    _echo_indented(shard_tools.describe_datasets(open_storage(config.root_uri)))


@click.group()
def shards() -> None:
    """Lists, checks, repairs and shows what the shard stage has made."""


@shards.command("ls")
@_selection
@with_recipe
@click.option("--samples", is_flag=True, help="List samples instead of shards.")
def list_shards(
    selection: str | None, recipe: str | None, overrides: Overrides, *, samples: bool
) -> None:
    """Lists the shards of the run's datasets."""
    from sigma_pipeline.data_prep.index import Index
    from sigma_pipeline.pipeline.shard_tools import describe_samples, describe_shards

    _, storage, refs = _splits(selection, recipe, overrides)
    for ref in refs:
        if samples:
            lines = describe_samples(Index.load(storage, ref))
        else:
            lines = describe_shards(storage, ref)
        for line in lines:
            click.echo(line)


@shards.command()
@_selection
@with_recipe
@click.option("--decode", is_flag=True, help="Decode every sample, too.")
def verify(
    selection: str | None, recipe: str | None, overrides: Overrides, *, decode: bool
) -> None:
    """Compares every shard with its receipt; exit status 1 where one is broken."""
    from sigma_pipeline.pipeline.shard_tools import verify

    config, storage, refs = _splits(selection, recipe, overrides)
    is_broken = False
    for ref, faults in verify(config, storage, refs, decode=decode):
        _echo_verdict(ref, faults, "as they were made")
        is_broken = is_broken or bool(faults)
    if is_broken:
        raise StageError(
            "shards are broken; mend what can be with: sigma-pipeline shards repair (the same "
            "--config and --set)"
        )


@shards.command()
@_selection
@with_recipe
def repair(selection: str | None, recipe: str | None, overrides: Overrides) -> None:
    """Makes broken shards again from the source, the same bytes as before."""
    from sigma_pipeline.pipeline.shard_tools import repair

    config, storage, refs = _splits(selection, recipe, overrides)
    for ref, faults in repair(config, storage, refs):
        _echo_verdict(ref, faults, "nothing to repair")
        if faults:
            click.echo("  repaired")


@shards.command()
@click.argument("key")
@with_recipe
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; the full key with .png, in this folder, if absent.",
)
def show(key: str, recipe: str | None, overrides: Overrides, *, out: Path | None) -> None:
    """Draws one sample's frames, with masks if it has any, into a PNG file.

    KEY is a sample's key or the beginning of one.
    """
    from sigma_pipeline.data_prep.index import Index
    from sigma_pipeline.pipeline.shard_tools import draw

    _, storage, refs = _splits(None, recipe, overrides)
    full, picture = draw(storage, refs, key, lambda ref: Index.load(storage, ref))
    path = out or Path(f"{full}.png")
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    click.echo(str(path))


def _splits(
    selection: str | None, recipe: str | None, overrides: Overrides
) -> "tuple[PipelineConfig, Storage, list[DatasetRef]]":
    from sigma_pipeline.infra.logs import configure_logging
    from sigma_pipeline.infra.storage import open_storage
    from sigma_pipeline.pipeline.shard_tools import chosen_splits

    configure_logging()
    config = load_recipe(recipe, overrides)
    storage = open_storage(config.root_uri)
    return config, storage, chosen_splits(config, storage, selection)


def _echo_verdict(ref: "DatasetRef", faults: "Sequence[Fault]", well: str) -> None:
    name = f"{ref.name}/{ref.split} {ref.version}"
    click.echo(f"{name}: {f'{len(faults)} broken' if faults else well}")
    for fault in faults:
        click.echo(f"  {'index' if fault.shard is None else f'shard {fault.shard}'}: {fault.what}")


def _echo_indented(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(f"  {line}")
