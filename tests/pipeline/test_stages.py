"""Stages run in their order, together where that helps, and only if all of them can."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from sigma_pipeline.infra.errors import (
    ConfigError,
    Interrupted,
    StageError,
)
from sigma_pipeline.infra.storage import write_json
from sigma_pipeline.pipeline import stages
from sigma_pipeline.pipeline.config import PipelineConfig, load_config
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.stage_names import StageName
from sigma_pipeline.pipeline.stages import (
    STAGES,
    Wishes,
    check_stages,
    run_stages,
)

if TYPE_CHECKING:
    from tests.pipeline.conftest import FakeJob

Follow = Callable[[], bool] | None
TRAIN_AND_EVALUATE = (StageName.TRAIN, StageName.EVALUATE)


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[Follow]:
    """What each evaluation was told to follow; none is done."""
    seen: list[Follow] = []

    def evaluate(_config: PipelineConfig, _services: Services, *, follow: Follow) -> None:
        seen.append(follow)
        while follow is not None and follow():
            pass

    monkeypatch.setattr(stages, "run_evaluate_stage", evaluate)
    return seen


def test_a_stage_needs_only_stages_listed_before_it() -> None:
    seen: set[StageName] = set()
    for stage in STAGES.values():
        assert seen.issuperset(stage.needs)
        seen.add(stage.name)


def test_the_table_has_every_stage_that_the_command_line_offers() -> None:
    assert list(STAGES) == list(StageName)


@pytest.mark.usefixtures("sharded")
def test_evaluation_follows_training_while_it_runs(
    config: PipelineConfig, services: Services, job: "FakeJob", evaluations: list[Follow]
) -> None:
    run_stages(TRAIN_AND_EVALUATE, config, services, Wishes())

    (follow,) = evaluations
    assert follow is not None
    assert job.looks_left < 0


@pytest.mark.usefixtures("sharded")
def test_evaluation_follows_nothing_when_training_is_finished(
    config: PipelineConfig, services: Services, evaluations: list[Follow]
) -> None:
    write_json(services.storage, "runs/trial/train/manifest.json", {})

    run_stages(TRAIN_AND_EVALUATE, config, services, Wishes())

    assert evaluations == [None]


@pytest.mark.usefixtures("sharded")
def test_a_failed_evaluation_lets_training_end_and_is_then_reported(
    config: PipelineConfig,
    services: Services,
    job: "FakeJob",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StageError("a cell failed")

    monkeypatch.setattr(stages, "run_evaluate_stage", fail)

    with pytest.raises(StageError, match="a cell failed"):
        run_stages(TRAIN_AND_EVALUATE, config, services, Wishes())

    assert not job.is_stopped
    assert job.looks_left < 0


@pytest.mark.usefixtures("sharded")
def test_an_interrupted_evaluation_stops_training(
    config: PipelineConfig,
    services: Services,
    job: "FakeJob",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise Interrupted("enough")

    monkeypatch.setattr(stages, "run_evaluate_stage", interrupt)

    with pytest.raises(Interrupted):
        run_stages(TRAIN_AND_EVALUATE, config, services, Wishes())

    assert job.is_stopped


@pytest.mark.parametrize("is_finished", [True, False])
def test_following_alone_ends_when_training_is_finished(
    config: PipelineConfig,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_finished: bool,
) -> None:
    answers = []
    monkeypatch.setattr(
        stages, "run_evaluate_stage", lambda *_, follow: answers.append(follow and follow())
    )
    if is_finished:
        write_json(services.storage, "runs/trial/train/manifest.json", {})

    run_stages([StageName.EVALUATE], config, services, Wishes(follow=True))
    run_stages([StageName.EVALUATE], config, services, Wishes())

    assert answers == [not is_finished, None]


def test_a_wrong_benchmark_setting_is_found_before_any_stage_starts(
    recipe_path: str, services: Services
) -> None:
    cells = "[{benchmark: knn, dataset: clips, settings: {kk: 3}}]"
    config = load_config(recipe_path, [f"evaluate.cells={cells}"])

    with pytest.raises(ConfigError) as caught:
        check_stages(tuple(StageName), config, services.storage)

    assert str(caught.value) == ("evaluate.cells.0.settings.kk: unknown key; did you mean 'k'?")


def test_an_unknown_benchmark_is_found_with_all_else_that_is_wrong(
    recipe_path: str, services: Services
) -> None:
    cells = "[{benchmark: kn, dataset: clips}, {benchmark: uvos, dataset: clips, view: {crops: 2}}]"
    short = "{benchmark: linear, dataset: clips, view: {num_frames: 32}}"
    config = load_config(recipe_path, [f"evaluate.cells={cells[:-1]}, {short}]"])

    with pytest.raises(ConfigError) as caught:
        check_stages((StageName.EVALUATE,), config, services.storage)

    first, second, third = str(caught.value).split("; evaluate.")
    assert first.startswith(
        "evaluate.cells.0.benchmark: there is no benchmark 'kn', only counting, davis"
    )
    assert second.startswith("cells.1.view: uvos reads a feature of each token")
    assert third.startswith("cells.2.view.num_frames: clips of 32 frames are not for this model")


def test_two_splits_where_groups_are_left_out_are_found_before_any_stage_starts(
    recipe_path: str, services: Services
) -> None:
    cells = "[{benchmark: knn, dataset: clips, settings: {leave_one_group_out: true}}]"
    config = load_config(recipe_path, [f"evaluate.cells={cells}"])

    with pytest.raises(ConfigError, match=r"cells\.0: leave_one_group_out takes one split, but"):
        check_stages(tuple(StageName), config, services.storage)


def test_a_reference_trained_on_groups_left_out_is_found_before_any_stage_starts(
    recipe_path: str, services: Services
) -> None:
    cell = "{benchmark: knn, dataset: clips, train_split: val, settings: {leave_one_group_out: on}}"
    supervised = "{dataset: clips, split: val}"
    config = load_config(
        recipe_path, [f"evaluate.cells=[{cell}]", f"evaluate.supervised={supervised}"]
    )

    with pytest.raises(ConfigError, match=r"^evaluate\.supervised: .* evaluate\.cells\.0 leaves"):
        check_stages(tuple(StageName), config, services.storage)
