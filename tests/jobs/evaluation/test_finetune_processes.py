"""Fine-tuning on real clips as real processes: killed, gone on with, and on one rank or two."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.data_prep.config import MultiViewConfig
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.benchmark import Subject
from sigma_pipeline.jobs.benchmarks.fine_tuned_views import view_outputs
from sigma_pipeline.jobs.benchmarks.fine_tuning import fine_tune, training_config
from sigma_pipeline.jobs.benchmarks.finetune import FullFineTuning
from sigma_pipeline.jobs.benchmarks.gang import OwnProcess
from sigma_pipeline.jobs.commits import Commit, newest_step
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.model.config import ModelConfig
from tests.jobs.evaluation.conftest import MODEL
from tests.jobs.evaluation.shard_here import shard_here
from tests.jobs.evaluation.subjects import trained_subject
from tests.jobs.process_gang import ProcessGang

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_rank", "one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]
ONE_TUBELET = ModelConfig.model_validate(
    MODEL.model_dump() | {"num_frames": 8, "tubelet_frames": 8}
)
"""A token holds all that happens in its patch: motion is learned in a minute."""
RECIPE = FullFineTuning(
    epochs=10,
    warmup_epochs=2,
    batch_videos=8,
    base_lr=0.1,
    augment_operations=1,
    clips_per_video=2,
    dropout=0.1,
)
MakeSubject = Callable[[str, int], Subject]


@pytest.fixture
def make_subject(
    storage: Storage, add_commit: Callable[..., Commit], real_videos: Path, tmp_path: Path
) -> MakeSubject:
    """Actions of the Weizmann set, half of each class to learn from, and an untrained encoder."""
    source = committed_encoder(add_commit(0, model=ONE_TUBELET))
    folder, shares = str(real_videos / "actions" / "weizmann64"), {"train": 0.5, "val": 0.5}
    refs = shard_here(storage, "weizmann64", tmp_path, source=folder, splits=shares)

    def make(name: str, ranks: int) -> Subject:
        return trained_subject(
            storage,
            source,
            (refs["weizmann64", "train"], refs["weizmann64", "val"]),
            tmp_path,
            view=MultiViewConfig(frame_stride=3, crop="resize", segments=2),
            gang=OwnProcess() if ranks == 1 else ProcessGang(ranks, tmp_path / "gangs" / name),
            training_name=name,
        )

    return make


def losses(storage: Storage, run_name: str) -> dict[int, float]:
    """By step; of a step that was taken twice, the later one."""
    entries, _ = read_entries(storage, run_name)
    return {
        entry.fields["step"]: entry.fields["values"]["train/loss"]
        for entry in entries
        if entry.kind == "metrics"
    }


def trained(subject: Subject, *, epochs: int = 10, log_every_steps: int = 10) -> Commit:
    """The last commit of a training by ``RECIPE``."""
    tuning, recipe = RECIPE._tuning(subject, 8, 0), replace(RECIPE.recipe(8), epochs=epochs)
    config = training_config(subject, tuning, recipe, num_videos=20, unit=2)
    return fine_tune(
        subject, tuning, config.model_copy(update={"log_every_steps": log_every_steps})
    )


def test_killed_in_the_middle_it_ends_with_the_same_weights(
    storage: Storage, make_subject: MakeSubject
) -> None:
    whole = trained(make_subject("whole", 2))
    subject = make_subject("killed", 2)
    assert isinstance(subject.gang, ProcessGang)

    with ThreadPoolExecutor() as pool:
        running = pool.submit(trained, subject)
        while newest_step(storage, "killed") < 8:
            time.sleep(0.02)
        subject.gang.kill()
        with pytest.raises(StageError, match="processes of the gang"):
            running.result()
    reached = newest_step(storage, "killed")
    resumed = trained(subject)

    assert 8 <= reached < resumed.step == whole.step == 20
    assert resumed.weights_sha256 == whole.weights_sha256


def test_two_ranks_take_the_same_steps_as_one_and_see_the_same_views(
    storage: Storage, make_subject: MakeSubject
) -> None:
    subjects = [make_subject(f"on-{ranks}", ranks) for ranks in (1, 2)]

    commit, _ = (trained(subject, epochs=3, log_every_steps=1) for subject in subjects)
    outputs = [view_outputs(subject, RECIPE._tuning(subject, 8, 0), commit) for subject in subjects]

    one, two = losses(storage, "on-1"), losses(storage, "on-2")
    assert two == pytest.approx(one, rel=1e-5)
    assert len(set(one.values())) == 6
    assert outputs[0].shape == (20, 2, 4)
    assert np.allclose(*outputs, rtol=0, atol=1e-6)
