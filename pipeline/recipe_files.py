"""Where recipes come from: YAML files that come with the package, or a file of one's own."""

import difflib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sigma_pipeline.infra.errors import ConfigError

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as written, before it is parsed."""

    name: str
    """What messages call it: the name it was asked for by."""
    text: str

    @property
    def headline(self) -> str:
        """The first line of the header comment: what the recipe is, in one line."""
        return self.text.partition("\n")[0].lstrip("# ").rstrip()


def recipe_names() -> list[str]:
    """Recipes that come with the package, sorted."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in resources.files("sigma_pipeline.pipeline").joinpath("recipes").iterdir()
        if entry.name.endswith(".yaml")
    )


def read_recipe(recipe: str) -> RecipeFile:
    """Reads a recipe by the name of a packaged one, or by the path of a file.

    Raises:
        ConfigError: there is no such recipe, or the file cannot be read as text.
    """
    if recipe in recipe_names():
        folder = resources.files("sigma_pipeline.pipeline").joinpath("recipes")
        return RecipeFile(recipe, folder.joinpath(f"{recipe}.yaml").read_text("utf-8"))
    path = Path(recipe)
    if not path.is_file():
        raise ConfigError(_unknown(recipe))
    try:
        return RecipeFile(recipe, path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{recipe}: cannot be read as a recipe: {error}") from error


def _unknown(recipe: str) -> str:
    if recipe.endswith(_SUFFIXES) or "/" in recipe:
        return f"{recipe}: no such recipe file"
    close = difflib.get_close_matches(recipe, recipe_names(), n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    names = ", ".join(recipe_names())
    return f"no recipe '{recipe}'{hint}: it is neither a file nor one of the package's: {names}"
