"""The ``sigma-pipeline`` command: it and ``cli_shards`` alone print for people.

What a command needs is imported when it runs: help and recipes appear at once.
"""

import logging
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import click

from sigma_pipeline.infra.errors import ConfigError, PipelineError
from sigma_pipeline.pipeline.cli_benchmarks import benchmarks
from sigma_pipeline.pipeline.cli_checkpoints import checkpoints
from sigma_pipeline.pipeline.cli_compare import compare
from sigma_pipeline.pipeline.cli_control import cancel, logs, show_run, status
from sigma_pipeline.pipeline.cli_options import load_recipe, with_recipe
from sigma_pipeline.pipeline.cli_shards import datasets, shards
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.recipe_files import read_recipe, recipe_names
from sigma_pipeline.pipeline.stage_names import ALL, STAGE_CHOICES, StageName, chosen_stages

_COMMAND = "sigma-pipeline"


class _Commands(click.Group):
    """Turns expected errors into one line and an exit status; others keep their traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PipelineError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_status)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=_COMMAND)
def cli() -> None:
    """Pre-trains video encoders with SIGMA, from raw videos to benchmark scores."""


cli.add_command(datasets)
cli.add_command(shards)
cli.add_command(checkpoints)
cli.add_command(benchmarks)
cli.add_command(compare)
cli.add_command(status)
cli.add_command(logs)
cli.add_command(cancel)


@cli.command()
@click.option(
    "--stage",
    type=click.Choice(STAGE_CHOICES),
    default=ALL,
    show_default=True,
    help="Which stage to run.",
)
@with_recipe
@click.option("--dry-run", is_flag=True, help="Print recipe and plan only; exit as the run would.")
@click.option("--force", is_flag=True, help="Shard again what is finished.")
@click.option("--follow", is_flag=True, help="Evaluate commits as training makes them.")
def run(
    stage: str,
    recipe: str | None,
    overrides: tuple[str, ...],
    *,
    dry_run: bool,
    force: bool,
    follow: bool,
) -> None:
    """Runs one stage, or all; what is finished is skipped."""
    stages = chosen_stages(stage)
    _check_flags(stages, force=force, follow=follow)
    config = load_recipe(recipe, overrides)
    if dry_run:
        _preview(stages, config, follow=follow)
        return
    _run(stages, config, force=force, follow=follow)
    show_run(config)
    if StageName.EVALUATE in stages:
        click.echo(f"\nCurves and pictures: {_dashboard_command(recipe, overrides)}")


@cli.command()
@with_recipe
@click.option("--port", type=click.IntRange(1, 65535), help="Of 127.0.0.1; a free one if absent.")
def dashboard(recipe: str | None, overrides: tuple[str, ...], port: int | None) -> None:
    """Opens MLflow on this machine; Ctrl-C ends it."""
    from sigma_pipeline.pipeline.dashboard import served_dashboard

    config = load_recipe(recipe, overrides)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with served_dashboard(config, port) as (address, server):
            click.echo(address)
            if server is not None:
                click.echo("Ctrl-C ends it.")
                server.wait()
    except KeyboardInterrupt:
        click.echo("Ended.")


@cli.command()
@with_recipe
def sync(recipe: str | None, overrides: tuple[str, ...]) -> None:
    """Brings MLflow up to date from the run's journal."""
    from sigma_pipeline.infra.storage import open_storage
    from sigma_pipeline.pipeline.tracked_run import update_tracking

    config = load_recipe(recipe, overrides)
    sent = update_tracking(config, open_storage(config.root_uri))
    click.echo(f"{sent} numbers sent")


@cli.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """Lists the package's recipes, or shows one."""
    if name is not None:
        click.echo(read_recipe(name).text, nl=False)
        return
    width = max(map(len, recipe_names()))
    for known in recipe_names():
        click.echo(f"{known:{width}}  {read_recipe(known).headline}")


def _check_flags(stages: tuple[StageName, ...], *, force: bool, follow: bool) -> None:
    """Refuses flags that would do nothing.

    Raises:
        ConfigError: names the stage that the flag goes with.
    """
    if follow and StageName.EVALUATE not in stages:
        raise ConfigError("--follow goes with --stage evaluate; --stage all always follows")
    if force and StageName.SHARD not in stages:
        raise ConfigError(
            "--force goes with --stage shard; training is repeated under another run_name, and "
            "scores are never overwritten"
        )


def _preview(stages: tuple[StageName, ...], config: PipelineConfig, *, follow: bool) -> None:
    """The resolved recipe, with what would be done as comments: still a recipe.

    Raises:
        PipelineError: what the run would end with, after all is shown.
    """
    from sigma_pipeline.infra.logs import configure_logging
    from sigma_pipeline.pipeline.preview import preview

    configure_logging(level=logging.WARNING)
    click.echo(config.to_yaml())
    for line in preview(stages, config, follow=follow):
        click.echo(f"# {line}")


def _run(
    stages: tuple[StageName, ...], config: PipelineConfig, *, force: bool, follow: bool
) -> None:
    from sigma_pipeline.infra.logs import configure_logging
    from sigma_pipeline.pipeline.services import open_services
    from sigma_pipeline.pipeline.stages import Wishes, check_stages, run_stages
    from sigma_pipeline.pipeline.stop_signals import interruptible
    from sigma_pipeline.pipeline.tracked_run import tracked

    services = open_services(config, show=lambda line: click.echo(line, err=True))
    check_stages(stages, config, services.storage)
    logs = config.work_path / "logs" / config.run_name
    configure_logging(json_path=logs / f"{services.attempt}-command.jsonl")
    with tracked(config, services.storage), interruptible():
        run_stages(stages, config, services, Wishes(force=force, follow=follow))


def _dashboard_command(recipe: str | None, overrides: tuple[str, ...]) -> str:
    """What to type to see this very run."""
    called_as = sys.argv[0] if Path(sys.argv[0]).name == _COMMAND else _COMMAND
    on_path = shutil.which(_COMMAND)
    is_on_path = on_path is not None and Path(on_path) == Path(called_as)
    words = [_COMMAND if is_on_path else called_as, "dashboard"]
    words += ["--config", recipe] if recipe is not None else []
    for override in overrides:
        if override.startswith(("run_name=", "root_uri=", "track.")):
            words += ["--set", override]
    return shlex.join(words)


def main() -> None:
    """Entry point."""
    cli()
