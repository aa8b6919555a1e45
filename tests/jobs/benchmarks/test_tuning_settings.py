"""Settings that cannot be meant are refused before anything is trained."""

import pytest
from pydantic import ValidationError

from sigma_pipeline.jobs.benchmarks.counting import RepetitionCounting
from sigma_pipeline.jobs.benchmarks.detection import ActionDetection
from sigma_pipeline.jobs.benchmarks.finetune import FullFineTuning
from sigma_pipeline.jobs.benchmarks.multilabel import Multilabel
from sigma_pipeline.jobs.benchmarks.tuning_settings import TuningSettings

ALL = [RepetitionCounting, ActionDetection, FullFineTuning, Multilabel]


@pytest.mark.parametrize("benchmark", ALL)
@pytest.mark.parametrize("settings", [{"epochs": 3}, {"epochs": 10, "warmup_epochs": 11}])
def test_a_warm_up_that_outlasts_the_training_is_refused(
    benchmark: type[TuningSettings], settings: dict[str, int]
) -> None:
    with pytest.raises(ValidationError, match=r"warmup_epochs\n.* longer than the training of"):
        benchmark.model_validate(settings)


@pytest.mark.parametrize("benchmark", ALL)
def test_an_epoch_of_several_visits_is_as_many_of_the_trainer(
    benchmark: type[TuningSettings],
) -> None:
    recipe = benchmark(epochs=6, warmup_epochs=1.5).recipe(8, visits=4)

    assert (recipe.epochs, recipe.warmup_epochs, recipe.batch_videos) == (24, 6, 8)
