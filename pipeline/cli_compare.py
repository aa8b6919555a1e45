"""``compare``: whether one encoder, or recipe, is better than another."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sigma_pipeline.infra.errors import PipelineError
from sigma_pipeline.pipeline.cli_options import load_recipe, with_recipe
from sigma_pipeline.pipeline.written_files import write_files

if TYPE_CHECKING:
    from sigma_pipeline.infra.storage import Storage
    from sigma_pipeline.jobs.compare_result import Comparison, Gate
    from sigma_pipeline.pipeline.config import PipelineConfig


def _finite(context: click.Context, option: click.Parameter, value: float) -> float:
    """Refuses what is no number to compare by."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is no finite number, such as 0.01", context, option)
    return value


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@with_recipe
@click.option(
    "--require",
    type=click.Choice(("better", "not-worse")),
    help="Exit with status 4 unless A is.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    default=0.0,
    callback=_finite,
    show_default=True,
    help="A difference that does not matter, in the unit of the scores (0.01: one point).",
)
@click.option(
    "--by",
    multiple=True,
    metavar="BENCHMARK/DATASET/SCORE",
    help="Compare by this score alone; repeatable. Else by the first score of all trials.",
)
@click.option("--encoders", is_flag=True, help="Ask about these encoders, not about other seeds.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write all files there.")
def compare(
    a: str,
    b: str,
    recipe: str | None,
    overrides: tuple[str, ...],
    *,
    require: "Gate | None",
    margin: float,
    by: tuple[str, ...],
    encoders: bool,
    is_json: bool,
    out: Path | None,
) -> None:
    """Tells whether A is better than B, by what each got on the same samples.

    A and B are RUN, RUN@STEP, RUN@last, RUN@best, RUN@untrained, RUN@imported or RUN@supervised of
    the recipe's store; several runs of one recipe are one side: RUN1,RUN2,RUN3. RUN is its last
    commit.
    """
    from sigma_pipeline.infra.storage import open_storage
    from sigma_pipeline.pipeline import comparing
    from sigma_pipeline.pipeline.compare_lines import comparison_blocks

    config = load_recipe(recipe, overrides)
    storage = open_storage(config.root_uri)
    wish = comparing.Wish(a=a, b=b, margin=margin, by=by, is_about_encoders=encoders)
    comparison = comparing.ask(storage, wish)
    if is_json:
        click.echo(comparing.comparison_json(comparison), nl=False)
    else:
        blocks = comparison_blocks(comparison)
        click.echo("\n\n".join("\n".join(block) for block in blocks if block))
    files = comparing.comparison_files(comparison)
    if out is not None:
        write_files(out, files, "--out")
    if _keep(storage, comparison, files):
        _update_tracking(config, storage, comparison.question.a.members[0].run_name)
    if require is not None:
        comparing.check_gate(storage, comparison, require)


def _keep(storage: "Storage", comparison: "Comparison", files: Mapping[str, bytes]) -> bool:
    """Whether the files could be kept in the store; the answer does not hang on it."""
    from sigma_pipeline.pipeline.comparing import keep

    try:
        folder = keep(storage, comparison, files)
    except (PipelineError, OSError) as error:
        click.echo(f"warning: not kept in {storage.root_uri}: {error}", err=True)
        return False
    click.echo(f"Kept in {storage.uri(folder)}", err=True)
    return True


def _update_tracking(config: "PipelineConfig", storage: "Storage", run_name: str) -> None:
    """Brings the files to MLflow, where that is known; they stay in the journal else."""
    from sigma_pipeline.pipeline.services import tracking_address
    from sigma_pipeline.pipeline.tracked_run import update_tracking

    if tracking_address(config, storage) is None:
        return
    try:
        update_tracking(config.model_copy(update={"run_name": run_name}), storage)
    except PipelineError as error:
        click.echo(f"warning: {error}; what is missing there is sent later", err=True)
