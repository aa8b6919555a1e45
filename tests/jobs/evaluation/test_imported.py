"""Weights from elsewhere are a run that evaluation takes like any other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.backlog import Outcome, Task
from sigma_pipeline.jobs.checkpoints import load_weights
from sigma_pipeline.jobs.commits import Commit, list_commits
from sigma_pipeline.jobs.encoders import committed_encoder, load_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation import Evaluation
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scores import score_table
from tests.jobs.evaluation.conftest import RUN
from tests.jobs.evaluation.release_files import classifier, equal, write_release

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]
Import = Callable[..., Commit]


class InProcess:
    """Runs each task when it is handed in; what it raises ends the test."""

    is_idle = True

    def start(self) -> None:
        """Always ready."""

    def has_room(self, task: Task) -> bool:
        """For one task at a time."""
        return self.is_idle

    def refusal(self, task: Task) -> str | None:
        """Whatever comes is run."""
        del task
        return None

    def __init__(self) -> None:
        self._ended: list[Outcome] = []

    def submit(self, task: Task) -> None:
        """Runs it."""
        task.function(*task.arguments)
        self._ended.append(Outcome(task))
        self.is_idle = False

    def finished(self, timeout_s: float) -> list[Outcome]:
        """What has been run since."""
        ended, self._ended, self.is_idle = self._ended, [], True
        return ended


@pytest.mark.parametrize("kind", ["pre-trained", "with a teacher", "classifier"])
def test_an_official_file_is_scored_like_any_other_run(
    kind: str,
    tmp_path: Path,
    state: dict[str, Tensor],
    import_file: Import,
    make_request: MakeRequest,
    storage: Storage,
    journal: Journal,
) -> None:
    changes: dict[str, Any] = {}
    if kind == "classifier":
        state = classifier(state)
    if kind == "with a teacher":
        changes = {"target": {"kind": "dino", "teacher": "dino_s"}}
        state = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
        state |= {
            "prototypes": torch.zeros(12, 384),
            "decoder.head.weight": torch.zeros(384, 8),
            "decoder.head.bias": torch.zeros(384),
        }
    import_file(write_release(tmp_path / "any.pth", state), **changes)
    request = make_request({"benchmark": "knn", "settings": {"k": 5}}, pictures=True)

    Evaluation(storage, journal, plan_grid(storage, request), InProcess()).run(None)

    (row,) = score_table(storage, RUN)
    (cell,) = row.cells
    assert cell.state == "done"
    assert [score.name for score in cell.scores]
    assert any("/pictures/" in key for key in storage.list(f"runs/{RUN}/evaluate"))


def test_an_import_is_a_commit_at_step_0_of_a_run_whose_training_is_done(
    official: Path, state: dict[str, Tensor], import_file: Import, storage: Storage
) -> None:
    commit = import_file(official)

    assert [commit.step for commit in list_commits(storage, RUN)] == [0]
    assert equal(load_weights(storage, commit), state)
    encoder = load_encoder(storage, committed_encoder(commit))
    assert torch.equal(encoder.norm.weight, state["encoder.norm.weight"])
    manifest = read_json(storage, f"runs/{RUN}/train/manifest.json")
    assert (manifest["step"], manifest["commit"]) == (0, commit.prefix)


def test_importing_the_same_file_again_changes_nothing(
    official: Path, import_file: Import, storage: Storage
) -> None:
    first = import_file(official)
    keys = storage.list("runs")

    assert import_file(official).prefix == first.prefix
    assert storage.list("runs") == keys


def test_a_run_with_other_commits_is_left_alone_and_a_free_name_is_given(
    official: Path, import_file: Import, add_commit: AddCommit, storage: Storage
) -> None:
    add_commit(300)
    keys = storage.list("runs")

    with pytest.raises(ConfigError, match=r"up to step 300; .* --set run_name=r1-2$"):
        import_file(official)

    assert storage.list("runs") == keys


def test_other_weights_do_not_replace_an_import(
    tmp_path: Path, official: Path, state: dict[str, Tensor], import_file: Import
) -> None:
    import_file(official)
    state["prototypes"] = state["prototypes"] * 2

    with pytest.raises(ConfigError, match="run_name=r1-2"):
        import_file(write_release(tmp_path / "other.pth", state))


def test_a_file_of_another_model_is_refused_with_every_difference(
    official: Path, import_file: Import, storage: Storage
) -> None:
    with pytest.raises(ConfigError, match=r"--config.*\n  model.prototypes: recipe 13, file 12$"):
        import_file(official, prototypes=13)

    assert storage.list("runs") == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"nothing", "cannot be imported: it is no whole PyTorch file"), (None, "is not there")],
)
def test_a_path_without_a_checkpoint_is_refused(
    tmp_path: Path, import_file: Import, content: bytes | None, sentence: str
) -> None:
    path = tmp_path / "file.pth"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises((ConfigError, MissingInputError), match=sentence):
        import_file(path)
