"""How many training samples a recipe lets a benchmark learn from."""

from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt


def _refuse_repeated(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(sizes)) < len(sizes):
        raise ValueError(f"{list(sizes)} names a size twice: each is one trial; leave one out")
    return sizes


ExampleSizes = Annotated[
    tuple[PositiveInt, ...], Field(min_length=1), AfterValidator(_refuse_repeated)
]
"""Of each class, a size divided by the number of classes, rounded up, or all it has. Several make a
curve. Which samples follows from the seed; that of 0 is SEVERE's draw."""
