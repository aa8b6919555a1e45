"""The train stage: what it refuses, what it asks the job for, and how it looks after it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import ConfigError, Interrupted, MissingInputError, StageError
from sigma_pipeline.infra.storage import write_json
from sigma_pipeline.jobs.attempts import Verdict, read_verdict, write_verdict
from sigma_pipeline.jobs.submission import read_submissions
from sigma_pipeline.pipeline.config import PipelineConfig, load_config
from sigma_pipeline.pipeline.run_recipe import recorded_versions
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.training import check_trainable, training

if TYPE_CHECKING:
    from tests.pipeline.conftest import FakeJob

pytestmark = pytest.mark.usefixtures("sharded")
Put = Callable[[int], None]


def train(config: PipelineConfig, services: Services) -> None:
    with training(config, services):
        pass


def changed(recipe_path: str, *overrides: str) -> PipelineConfig:
    return load_config(recipe_path, overrides)


def test_the_job_is_asked_for_the_version_in_the_store(
    config: PipelineConfig, services: Services, sharded: DatasetRef, job: "FakeJob"
) -> None:
    train(config, services)

    (request,) = job.requests
    assert request.datasets == (sharded,)
    assert request.root_uri == config.root_uri
    assert request.work_dir == str(config.work_path)


def test_a_mixture_is_asked_for_in_the_order_of_names_and_recorded(
    recipe_path: str, services: Services, sharded: DatasetRef, job: "FakeJob"
) -> None:
    other = DatasetRef("birds", "train", "v7")
    manifest = {"version": other.version, "settings": {}, "samples": 9}
    write_json(services.storage, other.manifest_key, manifest)
    mixing = changed(recipe_path, "datasets.birds.source=/b", "train.dataset={clips: 3, birds: 1}")

    train(mixing, services)
    train(mixing, services)

    first, second = job.requests
    assert first.datasets == (other, sharded)
    assert first.train.weights == {"birds": 1, "clips": 3}
    assert first.config_fingerprint == second.config_fingerprint
    assert recorded_versions(services.storage, "trial") == {
        "clips": {"train": "v1"},
        "birds": {"train": "v7"},
    }


def test_what_the_job_logs_is_shown(
    config: PipelineConfig, services: Services, shown: list[str], job: "FakeJob"
) -> None:
    train(config, services)

    assert job.requests
    assert shown == ["step 1"]


def test_the_job_runs_from_a_copy_of_the_code_and_is_written_down(
    config: PipelineConfig, services: Services, job: "FakeJob"
) -> None:
    train(config, services)

    (submission,) = read_submissions(services.storage, "trial")
    assert job.code == config.work_path / "code"
    assert (submission.stage, submission.job_id, submission.cluster) == ("train", "4711", "local")


def test_a_person_may_try_again_what_was_given_up(
    config: PipelineConfig, services: Services, job: "FakeJob"
) -> None:
    verdict = Verdict(reason="3 attempts failed", attempts=3, step=4, time_ms=1)
    write_verdict(services.storage, "trial", verdict)

    train(config, services)

    assert job.requests
    assert read_verdict(services.storage, "trial") is None


def test_equal_science_is_asked_for_under_an_equal_fingerprint(
    recipe_path: str, services: Services, job: "FakeJob"
) -> None:
    train(changed(recipe_path), services)
    train(changed(recipe_path, "train.log_every_steps=3", "seed=0"), services)

    first, second = job.requests
    assert first.config_fingerprint == second.config_fingerprint


def test_a_finished_training_is_not_launched_again(
    config: PipelineConfig, services: Services, job: "FakeJob"
) -> None:
    write_json(services.storage, "runs/trial/train/manifest.json", {})

    with training(config, services) as is_running:
        assert is_running is None

    assert job.requests == []


def test_other_science_than_that_of_the_commits_is_refused_with_the_keys_and_a_free_name(
    recipe_path: str, services: Services, commit: Put, job: "FakeJob"
) -> None:
    train(changed(recipe_path), services)
    commit(0)
    write_json(services.storage, "runs/trial-2/train/settings.json", {})
    other = changed(recipe_path, "seed=3", "model.prototypes=9")

    with pytest.raises(ConfigError) as caught:
        train(other, services)

    assert str(caught.value) == (
        "run 'trial' was begun with other settings: seed: 0 -> 3; model.prototypes: 4000 -> 9. "
        "One run is one recipe: set them back, or begin another run with --set run_name=trial-3"
    )
    with pytest.raises(ConfigError, match="seed: 0 -> 3"):
        check_trainable(other, services.storage)
    assert len(job.requests) == 1


def test_settings_without_effect_may_change_and_are_logged(
    recipe_path: str, services: Services, commit: Put, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write_json(services.storage, "runs/trial/train/manifest.json", {})
    train(changed(recipe_path), services)
    commit(0)

    train(changed(recipe_path, "train.loader.workers=9"), services)

    assert "train.loader.workers: 2 -> 9" in caplog.text


def test_settings_may_still_change_while_nothing_is_committed(
    recipe_path: str, services: Services, job: "FakeJob"
) -> None:
    train(changed(recipe_path, "model.prototypes=9"), services)
    train(changed(recipe_path, "model.prototypes=8"), services)

    assert [request.model.prototypes for request in job.requests] == [9, 8]


def test_a_teacher_that_is_not_there_is_refused_in_one_sentence(services: Services) -> None:
    with pytest.raises(ConfigError, match="does not exist, and nothing is downloaded"):
        check_trainable(load_config("ssv2_vit_b_dino"), services.storage)


def test_a_missing_dataset_is_said_before_anything_is_launched(
    recipe_path: str, services: Services, job: "FakeJob"
) -> None:
    with pytest.raises(MissingInputError, match="split 'val'"):
        train(changed(recipe_path, "train.split=val"), services)

    assert job.requests == []


def test_an_interruption_stops_the_job_and_waits_for_it(
    config: PipelineConfig, services: Services, job: "FakeJob"
) -> None:
    job.looks_left = 1000

    with pytest.raises(KeyboardInterrupt), training(config, services):
        raise KeyboardInterrupt

    assert job.is_stopped


def test_a_job_that_fails_while_it_is_stopped_does_not_hide_why_it_was_stopped(
    config: PipelineConfig, services: Services, job: "FakeJob"
) -> None:
    job.outcome = StageError("lost a rank")

    with pytest.raises(KeyboardInterrupt), training(config, services):
        raise KeyboardInterrupt


def test_a_job_that_somebody_else_stopped_can_be_resumed(
    config: PipelineConfig, services: Services, job: "FakeJob"
) -> None:
    job.outcome = {"state": "stopped", "step": 7, "reason": "signal SIGTERM", "commit": "c"}

    with pytest.raises(Interrupted, match="after step 7 \\(signal SIGTERM\\)"):
        train(config, services)


def test_the_error_of_a_failed_job_is_passed_on(
    config: PipelineConfig, services: Services, job: "FakeJob"
) -> None:
    job.outcome = StageError("the loss was not finite")

    with pytest.raises(StageError, match="the loss was not finite"):
        train(config, services)
