"""The stages of the pipeline, in the order they run, and how they are run together.

A stage reads what the stages before it have put into the store, and nothing else passes from one to
the next: each can run alone, later, on another machine.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sigma_pipeline.infra.errors import Interrupted, PipelineError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.evaluating import (
    check_cells,
    preview_evaluate_stage,
    run_evaluate_stage,
)
from sigma_pipeline.pipeline.on_slurm import is_submitted, submit_stages
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.sharding import preview_shard_stage, run_shard_stage
from sigma_pipeline.pipeline.stage_names import StageName
from sigma_pipeline.pipeline.training import (
    check_trainable,
    is_training_finished,
    training,
)
from sigma_pipeline.pipeline.training_plan import preview_train_stage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wishes:
    """What the user asked for besides the stage."""

    force: bool = False
    """Shard again what is finished."""
    follow: bool = False
    """Evaluate commits as training makes them."""


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline."""

    name: StageName
    needs: tuple[StageName, ...]
    """Stages that must have left something in the store."""
    reads: Callable[[PipelineConfig], list[tuple[str, str]]]
    """(dataset, split) of all that it reads."""
    check: Callable[[PipelineConfig, Storage], None]
    """Refuses a recipe that this stage cannot run, before any stage starts."""
    preview: Callable[[PipelineConfig, Storage], Iterator[str]]
    """Says what ``run`` would do, and writes nothing."""
    run: Callable[[PipelineConfig, Services, Wishes], None]


def _shard(config: PipelineConfig, services: Services, wishes: Wishes) -> None:
    run_shard_stage(config, services, force=wishes.force)


def _train(config: PipelineConfig, services: Services, _wishes: Wishes) -> None:
    with training(config, services):
        pass  # leaving waits for the end


def _evaluate(config: PipelineConfig, services: Services, wishes: Wishes) -> None:
    def is_training() -> bool:
        return not is_training_finished(services.storage, config.run_name)

    run_evaluate_stage(config, services, follow=is_training if wishes.follow else None)


def _nothing_to_check(_config: PipelineConfig, _storage: Storage) -> None:
    """For a stage that any valid recipe can run."""


STAGES: Mapping[StageName, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            StageName.SHARD,
            needs=(),
            reads=lambda _config: [],
            check=_nothing_to_check,
            preview=preview_shard_stage,
            run=_shard,
        ),
        Stage(
            StageName.TRAIN,
            needs=(StageName.SHARD,),
            reads=lambda config: config.trained_splits,
            check=check_trainable,
            preview=preview_train_stage,
            run=_train,
        ),
        Stage(
            StageName.EVALUATE,
            needs=(StageName.SHARD, StageName.TRAIN),
            reads=lambda config: config.evaluated_splits,
            check=check_cells,
            preview=preview_evaluate_stage,
            run=_evaluate,
        ),
    )
}


def check_stages(names: Sequence[StageName], config: PipelineConfig, storage: Storage) -> None:
    """Finds out what can be known before any stage starts; writes nothing.

    Raises:
        ConfigError: one of the stages cannot run this recipe.
    """
    for name in names:
        STAGES[name].check(config, storage)


def run_stages(
    names: Sequence[StageName], config: PipelineConfig, services: Services, wishes: Wishes
) -> None:
    """Runs stages in their order; evaluation runs beside training when both are asked for.

    On SLURM they are submitted, but for sharding alone.

    Raises:
        PipelineError: what stopped a stage.
    """
    if is_submitted(names, config):
        submit_stages(names, config, services, force=wishes.force, follow=wishes.follow)
        return
    steps: list[tuple[str, Callable[[], None]]] = [
        (name.value, partial(STAGES[name].run, config, services, wishes)) for name in names
    ]
    if {StageName.TRAIN, StageName.EVALUATE} <= set(names):
        steps[-2:] = [("train with evaluate", partial(_train_and_evaluate, config, services))]
    for title, step in steps:
        started_s = time.monotonic()
        log.info("Stage %s of run %s in %s", title, config.run_name, config.root_uri)
        step()
        log.info("Stage %s done after %.0f s", title, time.monotonic() - started_s)


def _train_and_evaluate(config: PipelineConfig, services: Services) -> None:
    """Evaluates each commit as it comes. A failed evaluation is no reason to stop training."""
    failure: PipelineError | None = None
    with training(config, services) as is_running:
        try:
            run_evaluate_stage(config, services, follow=is_running)
        except Interrupted:
            raise
        except PipelineError as error:
            log.error("Evaluation ended early, training is waited for: %s", error)
            failure = error
    if failure is not None:
        raise failure
