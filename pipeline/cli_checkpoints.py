"""Commands about what training has made, and about weights from elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from sigma_pipeline.pipeline.cli_options import load_recipe, with_recipe

if TYPE_CHECKING:
    from sigma_pipeline.infra.storage import Storage
    from sigma_pipeline.pipeline.config import PipelineConfig

Overrides = tuple[str, ...]
Step = int | Literal["best"]
LAYOUTS = ("safetensors", "huggingface", "official")


class _Step(click.ParamType[Step]):
    """A number of steps, or the word for the best commit."""

    name = "STEP|best"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Step:
        if value == "best":
            return "best"
        return click.IntRange(min=0).convert(value, param, ctx)


@click.group()
def checkpoints() -> None:
    """Lists the commits of a run, exports them, takes others' weights in, replays bad steps."""


@checkpoints.command("ls")
@with_recipe
def list_checkpoints(recipe: str | None, overrides: Overrides) -> None:
    """Lists the commits of the run."""
    from sigma_pipeline.pipeline.checkpoint_table import describe_commits

    config, storage = _open(recipe, overrides)
    for line in describe_commits(storage, config.run_name):
        click.echo(line)


@checkpoints.command("import")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@with_recipe
def import_file(path: Path, recipe: str | None, overrides: Overrides) -> None:
    """Makes the weights in FILE a run that can be evaluated.

    FILE is an official .pth (pre-trained or fine-tuned), a state dict, a safetensors file, or a
    Hugging Face VideoMAE folder. Nothing in it is run. The recipe's model must be that of the file.
    """
    from sigma_pipeline.jobs.checkpoint_import import import_checkpoint

    config, storage = _open(recipe, overrides)
    commit = import_checkpoint(storage, config.run_name, path, config.model, config.scratch_path)
    click.echo(storage.uri(commit.prefix))


@checkpoints.command("export")
@click.option(
    "--format", "layout", type=click.Choice(LAYOUTS), required=True, help="What to write."
)
@click.option(
    "--step",
    type=_Step(),
    help="Of the commit, or: best, by the recipe's evaluate.best_by. The newest if absent.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="File to write; a folder with --format huggingface.",
)
@click.option(
    "--fine-tuned",
    metavar="DATASET",
    help="The classifier that a finetune cell has trained from the commit; or the cell's key.",
)
@with_recipe
def export_file(
    layout: str,
    step: Step | None,
    out: Path,
    fine_tuned: str | None,
    recipe: str | None,
    overrides: Overrides,
) -> None:
    """Writes the weights of a commit, or of a classifier made of it, for others to read."""
    from sigma_pipeline.jobs.checkpoint_export import export_commit, find_commit
    from sigma_pipeline.jobs.fine_tuned_export import export_fine_tuned, find_fine_tuned

    config, storage = _open(recipe, overrides)
    if fine_tuned is None:
        export_commit(storage, find_commit(storage, config.run_name, step), layout, out)
    else:
        begun_with = None if step is None else find_commit(storage, config.run_name, step).step
        cell = find_fine_tuned(storage, config.run_name, fine_tuned, begun_with)
        export_fine_tuned(storage, cell, layout, out)
    click.echo(str(out))


@checkpoints.command("replay")
@click.argument("step", type=click.IntRange(min=1))
@with_recipe
def replay(step: int, recipe: str | None, overrides: Overrides) -> None:
    """Tries the clips of a bad STEP again: which one is not finite, in which layer first.

    For steps whose loss or gradient was not finite; the log of the training names them. Uses the
    weights and clips that were kept of the step, in float32 and in the precision of the run.
    """
    from sigma_pipeline.jobs.replay import replay_step

    config, storage = _open(recipe, overrides)
    for line in replay_step(storage, config.run_name, step):
        click.echo(line)


def _open(recipe: str | None, overrides: Overrides) -> "tuple[PipelineConfig, Storage]":
    from sigma_pipeline.infra.logs import configure_logging
    from sigma_pipeline.infra.storage import open_storage

    configure_logging()
    config = load_recipe(recipe, overrides)
    return config, open_storage(config.root_uri)
