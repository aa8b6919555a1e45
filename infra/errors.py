"""Errors a user can act on, and the exit status each one ends the process with.

PipelineError                  1   something failed after it had started
|  |- StoreUnreachable         1   the store gives no good answer; it may pass
|     |- StoreRefuses          2   the store refuses access; a ConfigError, too
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


class BadNodes(StageError):  # noqa: N818 - says what there is
    """Nodes of a job did not come up or do not work."""

    def __init__(self, message: str, hosts: tuple[str, ...] = (), *, reported_by: int = 0) -> None:
        """Takes what to say, and what it says to programs.

        Args:
            message: one sentence.
            hosts: nodes that the next attempt should do without.
            reported_by: the rank that speaks for all.
        """
        super().__init__(message)
        self.hosts = hosts
        self.reported_by = reported_by


class ConfigError(PipelineError):
    """The configuration cannot be used as written."""

    exit_status = 2


class MissingInputError(PipelineError):
    """What a stage reads is not there yet."""

    exit_status = 3


class StoreUnreachable(StageError):  # noqa: N818 - the state of a store
    """The store gives no good answer. What it holds may be well, and all of this may pass."""


class StoreRefuses(StoreUnreachable, ConfigError):  # noqa: N818 - what a store does
    """The store refuses access: a wrong setting, unless it has granted the same access before."""

    exit_status = 2


class GateError(PipelineError):
    """A required comparison did not come out as demanded."""

    exit_status = 4


class Interrupted(PipelineError):  # noqa: N818 - a stop that was asked for is no error in name
    """Stopped early on request, with everything committed; running again resumes."""

    exit_status = 75
