"""Commands about a run that lives on its own: how it stands, what it says, and its end."""

import time
from typing import TYPE_CHECKING, cast

import click

from sigma_pipeline.infra.errors import Interrupted, PipelineError
from sigma_pipeline.pipeline.cli_options import load_recipe, with_recipe
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.stage_names import ALL, STAGE_CHOICES, StageName, chosen_stages

if TYPE_CHECKING:
    from sigma_pipeline.infra.storage import Storage
    from sigma_pipeline.jobs.scores import TableRow
    from sigma_pipeline.jobs.submission import JobStage

Overrides = tuple[str, ...]
_DEFAULT_GRACE_S = 600.0


@click.command()
@with_recipe
def status(recipe: str | None, overrides: Overrides) -> None:
    """Shows where a run stands in each stage, in SLURM and in the store, and its scores."""
    config = load_recipe(recipe, overrides)
    is_slurms = show_run(config)
    if is_slurms:
        _update_tracking(config)


@click.command()
@with_recipe
@click.option("--follow", "-f", is_flag=True, help="Go on showing what is written, to the end.")
@click.option(
    "--rank",
    type=click.IntRange(min=0),
    help="Or task of an array; rank 0, or the task that wrote last, if absent.",
)
@click.option(
    "--stage",
    type=click.Choice([name.value for name in StageName]),
    default=StageName.TRAIN.value,
    show_default=True,
    help="Whose newest job.",
)
@click.option(
    "--lines", type=click.IntRange(min=0), default=50, show_default=True, help="How many to show."
)
def logs(
    recipe: str | None,
    overrides: Overrides,
    *,
    follow: bool,
    rank: int | None,
    stage: str,
    lines: int,
) -> None:
    """Shows the log of a job of the run."""
    from sigma_pipeline.infra.storage import open_storage
    from sigma_pipeline.pipeline.run_logs import RunLogs

    config = load_recipe(recipe, overrides)
    found = RunLogs(
        open_storage(config.root_uri),
        config.run_name,
        cast("JobStage", stage),
        rank,
        show=click.echo,
        remark=lambda line: click.echo(f"-- {line}", err=True),
    )
    if not follow:
        found.show_last(lines)
        return
    try:
        found.follow(lines)
    except KeyboardInterrupt:
        click.echo("-- the job goes on", err=True)


@click.command()
@with_recipe
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=_DEFAULT_GRACE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long training may take to save and end.",
)
@click.option(
    "--stage", type=click.Choice(STAGE_CHOICES), default=ALL, show_default=True, help="Whose jobs."
)
@click.option("--now", is_flag=True, help="Don't let training save: its last commit is kept.")
def cancel(
    recipe: str | None, overrides: Overrides, *, grace: float, stage: str, now: bool
) -> None:
    """Ends the jobs of a run in SLURM; training saves first."""
    from sigma_pipeline.infra.storage import open_storage
    from sigma_pipeline.pipeline.cancelling import cancel_run, describe_stop

    config = load_recipe(recipe, overrides)
    storage, stages = open_storage(config.root_uri), chosen_stages(stage)
    grace_s = 0.0 if now else grace
    try:
        count = cancel_run(storage, config.run_name, stages, grace_s=grace_s, show=click.echo)
    except KeyboardInterrupt:
        raise Interrupted(
            "not waited for: jobs that were asked to save and end still do so; call it again to "
            "end what is left"
        ) from None
    if not count:
        click.echo(
            f"SLURM has no job of run {config.run_name}: there is nothing to cancel. What a "
            "command runs on its own machine ends with Ctrl-C in its terminal."
        )
        return
    click.echo(describe_stop(storage, config.run_name))
    _update_tracking(config)


def show_run(config: PipelineConfig) -> bool:
    """Prints how a run stands, with its scores; returns whether SLURM had a job of it."""
    from sigma_pipeline.infra.storage import open_storage
    from sigma_pipeline.pipeline.run_state import gather_state
    from sigma_pipeline.pipeline.status import describe_run
    from sigma_pipeline.pipeline.summary_lines import summary_blocks
    from sigma_pipeline.pipeline.table import format_scores

    storage = open_storage(config.root_uri)
    state = gather_state(config, storage, time.time_ns() // 1_000_000)
    rows, grid, num_missing = _evaluation(config, storage, is_trained=state.train.is_finished)
    for line in describe_run(state, grid, num_missing=num_missing):
        click.echo(line)
    if rows:
        blocks = [format_scores(rows), *summary_blocks(storage, config.run_name, rows)]
        click.echo("".join("\n".join(("", *block, "")) for block in blocks), nl=False)
    return any(job.is_slurms for job in state.jobs)


def _update_tracking(config: PipelineConfig) -> None:
    """Tells MLflow how a run of SLURM's stands; keeps it for later where MLflow is not there."""
    from sigma_pipeline.infra.storage import open_storage
    from sigma_pipeline.pipeline.services import tracking_address
    from sigma_pipeline.pipeline.tracked_run import note_how_it_stands, update_tracking

    storage = open_storage(config.root_uri)
    if tracking_address(config, storage) is None:
        note_how_it_stands(config, storage)
        return
    try:
        update_tracking(config, storage)
    except PipelineError as error:
        click.echo(f"warning: {error}; what is missing there is sent later", err=True)


def _evaluation(
    config: PipelineConfig, storage: "Storage", *, is_trained: bool
) -> "tuple[list[TableRow], list[str], int]":
    """Rows of the table of scores, lines about the grid, and how many cells are missing."""
    from sigma_pipeline.jobs.best_commit import read_best
    from sigma_pipeline.jobs.evaluation_progress import count_missing, describe_grid
    from sigma_pipeline.jobs.scores import score_table
    from sigma_pipeline.jobs.trial_progress import trial_progress

    rows, best_by = score_table(storage, config.run_name), config.evaluate.best_by
    trials = trial_progress(storage, config.run_name, rows, is_trained=is_trained, best_by=best_by)
    if not trials:  # before the first evaluation
        return [], [], len(config.evaluate.cells)
    lines = list(describe_grid(trials, config.launch.evaluate))
    if (best := read_best(storage, config.run_name)) is not None:
        lines.append(f"best commit by {best.by}: step {best.step}, {best.value:.4g}")
    return rows, lines, count_missing(trials)
