"""The names of the stages, apart from what they do: the command line needs no more to start."""

from enum import StrEnum


class StageName(StrEnum):
    """Steps of the pipeline, in the order in which they run."""

    SHARD = "shard"
    TRAIN = "train"
    EVALUATE = "evaluate"


ALL = "all"
STAGE_CHOICES = (*(name.value for name in StageName), ALL)
"""What ``--stage`` accepts."""


def chosen_stages(choice: str) -> tuple[StageName, ...]:
    """The stages that a choice stands for, in their order."""
    return tuple(StageName) if choice == ALL else (StageName(choice),)
