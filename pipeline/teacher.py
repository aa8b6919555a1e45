"""The frozen teacher that a recipe names: whether it is there, and which one it is."""

from collections.abc import Iterator
from contextlib import contextmanager

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.model.config import TargetConfig
from sigma_pipeline.model.teacher_source import teacher_sha256, teacher_source


def check_teacher(target: TargetConfig) -> None:
    """Looks for the weights of the frozen teacher, if the target branch has one.

    Raises:
        ConfigError: they are not where the recipe says, or are none.
    """
    if target.kind == "dino":
        with _fault_of_the_recipe():
            teacher_source(target)


def identify_teacher(target: TargetConfig) -> str | None:
    """Its ``teacher_sha256``; None where the target branch has no teacher.

    Raises:
        ConfigError: as ``check_teacher``, or the weights cannot be read.
    """
    if target.kind != "dino":
        return None
    with _fault_of_the_recipe():
        return teacher_sha256(target)


@contextmanager
def _fault_of_the_recipe() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"model.{error}") from error
