"""Errors a user can act on, and the exit status each one ends the process with.

PipelineError                  1   something failed after it had started
|- ConfigError                 2   a recipe or an override is wrong
|- MissingInputError           3   an earlier stage has not produced what this one reads
|- GateError                   4   a gate was not met
|- Interrupted                75   stopped early on request; the same command resumes

Anything else that escapes is a bug and keeps its traceback.
"""


class PipelineError(Exception):
    """Base of every error that is shown without a traceback."""

    exit_status = 1


class StageError(PipelineError):
    """A stage failed after it had started."""


class ConfigError(PipelineError):
    """The configuration cannot be used as written."""

    exit_status = 2


class MissingInputError(PipelineError):
    """What a stage reads is not there yet."""

    exit_status = 3


class GateError(PipelineError):
    """A required comparison did not come out as demanded."""

    exit_status = 4


class Interrupted(PipelineError):  # noqa: N818 - a stop that was asked for is no error in name
    """Stopped early on request, with everything committed; running again resumes."""

    exit_status = 75
