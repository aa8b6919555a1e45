"""Options that several commands have: which run is meant."""

from typing import Any

import click

from sigma_pipeline.pipeline.config import PipelineConfig, load_config

_DEFAULT_RECIPE = "demo"


def with_recipe(command: Any) -> Any:
    """Adds ``--config`` and ``--set`` to a command, which gets ``recipe`` and ``overrides``."""
    recipe = click.option(
        "--config",
        "recipe",
        metavar="RECIPE",
        help=f"A recipe's file, or the name of a packaged one; '{_DEFAULT_RECIPE}' if absent.",
    )
    overrides = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change one setting, such as train.epochs=5; repeatable.",
    )
    return recipe(overrides(command))


def load_recipe(recipe: str | None, overrides: tuple[str, ...]) -> PipelineConfig:
    """The configuration that the two options mean.

    Raises:
        ConfigError: lists every problem.
    """
    if recipe is None:
        click.echo(f"No --config given: the recipe is '{_DEFAULT_RECIPE}'.", err=True)
    return load_config(recipe or _DEFAULT_RECIPE, overrides)
