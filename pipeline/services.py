"""The outside world, as stages may use it: the store, the journal, and somebody to tell."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.infra.tracking import default_tracking_uri
from sigma_pipeline.pipeline.config import PipelineConfig


@dataclass(frozen=True)
class Services:
    """What one call of the command works with; tests pass stand-ins."""

    storage: Storage
    run_name: str
    attempt: str
    """This life of the command."""
    show: Callable[[str], None]
    """Takes lines for the person who waits."""

    @contextmanager
    def journal(self, stage: str) -> Iterator[Journal]:
        """The pen of a stage that runs in this process."""
        journal = Journal(self.storage, self.run_name, self.attempt, stage)
        try:
            yield journal
        finally:
            journal.close()


def open_services(config: PipelineConfig, show: Callable[[str], None]) -> Services:
    """The services of the store that the recipe names."""
    storage = open_storage(config.root_uri)
    return Services(storage, config.run_name, new_attempt(), show)


def tracking_address(config: PipelineConfig, storage: Storage) -> str | None:
    """Where MLflow keeps the run; None where nothing is set and the store holds no database."""
    return config.track.tracking_uri or default_tracking_uri(storage)
