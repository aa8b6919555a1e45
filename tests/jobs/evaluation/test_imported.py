"""Weights from elsewhere are a run that evaluation takes like any other, and go out again."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.backlog import Outcome, Task
from sigma_pipeline.jobs.checkpoint_export import LAYOUTS, export_commit, find_commit
from sigma_pipeline.jobs.checkpoint_import import import_checkpoint
from sigma_pipeline.jobs.commits import Commit, list_commits, load_weights
from sigma_pipeline.jobs.encoders import committed_encoder, load_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation import Evaluation
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scores import score_table
from sigma_pipeline.model.checkpoint_files import read_checkpoint
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import build_sigma

RUN = "r1"
AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]
Import = Callable[..., Commit]


class InProcess:
    """Runs each task when it is handed in; what it raises ends the test."""

    num_free = 1
    is_idle = True

    def start(self) -> None:
        """Always ready."""

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


@pytest.fixture
def model(make_request: MakeRequest, add_commit: AddCommit, storage: Storage) -> ModelConfig:
    """That of this folder's tests."""
    commit = add_commit(7, attempt="other")
    for key in storage.list(f"runs/{RUN}"):
        storage.delete(key)
    return ModelConfig.model_validate(commit.model)


@pytest.fixture
def state(model: ModelConfig) -> dict[str, Tensor]:
    return dict(build_sigma(model, seed=5).state_dict())


@pytest.fixture
def official(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    """A file as the official release writes them."""
    return write_release(tmp_path / "official.pth", state)


@pytest.fixture
def import_file(storage: Storage, model: ModelConfig, tmp_path: Path) -> Import:
    def run(path: Path, run_name: str = RUN, **changes: Any) -> Commit:
        changed = ModelConfig.model_validate(model.model_dump() | changes)
        return import_checkpoint(storage, run_name, path, changed, tmp_path / "scratch")

    return run


def write_release(path: Path, state: Mapping[str, Tensor]) -> Path:
    moments = {number: {"exp_avg": tensor} for number, tensor in enumerate(state.values())}
    content = {
        "model": dict(state),
        "optimizer": {"state": moments, "param_groups": [{"lr_scale": 1.0}]},
        "epoch": 799,
        "scaler": {"scale": 65536.0},
        "args": Namespace(model="pretrain_videomae_base_patch16_224"),
    }
    torch.save(content, path)
    return path


def classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    dim = len(state["encoder.norm.bias"])
    encoder = {
        name.removeprefix("encoder."): tensor
        for name, tensor in state.items()
        if name.startswith("encoder.") and not name.startswith("encoder.norm.")
    }
    head = {"head.weight": torch.ones(5, dim), "head.bias": torch.ones(5)}
    return encoder | head | {"fc_norm.weight": torch.ones(dim), "fc_norm.bias": torch.ones(dim)}


def equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


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


def test_an_official_file_goes_out_as_it_came_in(
    tmp_path: Path,
    official: Path,
    state: dict[str, Tensor],
    import_file: Import,
    storage: Storage,
) -> None:
    export_commit(storage, import_file(official), "official", tmp_path / "out.pth")

    assert equal(torch.load(tmp_path / "out.pth", weights_only=True)["model"], state)


@pytest.mark.parametrize("layout", ["official", "safetensors"])
def test_a_trained_commit_comes_back_bit_for_bit(
    tmp_path: Path, layout: str, add_commit: AddCommit, import_file: Import, storage: Storage
) -> None:
    commit = add_commit(300)

    export_commit(storage, commit, layout, tmp_path / "out")
    again = import_file(tmp_path / "out", run_name="again")

    assert equal(load_weights(storage, again), load_weights(storage, commit))
    assert again.model == commit.model


def test_a_classifier_goes_out_as_it_came_in(
    tmp_path: Path, state: dict[str, Tensor], import_file: Import, storage: Storage
) -> None:
    tensors = classifier(state)
    commit = import_file(write_release(tmp_path / "in.pth", tensors))

    export_commit(storage, commit, "official", tmp_path / "out.pth")

    assert equal(torch.load(tmp_path / "out.pth", weights_only=True)["model"], tensors)


def test_a_hugging_face_folder_can_be_exported_and_imported(
    tmp_path: Path, add_commit: AddCommit, import_file: Import, storage: Storage
) -> None:
    commit = add_commit(300)

    export_commit(storage, commit, "huggingface", tmp_path / "folder")
    again = import_file(tmp_path / "folder", run_name="again")

    encoder = {n: t for n, t in load_weights(storage, commit).items() if n.startswith("encoder.")}
    assert equal(load_weights(storage, again), encoder)
    assert read_checkpoint(tmp_path / "folder").kind == "encoder"


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_an_export_never_overwrites_and_leaves_nothing_half_done(
    tmp_path: Path, layout: str, add_commit: AddCommit, storage: Storage
) -> None:
    (tmp_path / "there").write_text("mine")
    commit = add_commit(300)

    with pytest.raises(ConfigError, match="exists and is not overwritten"):
        export_commit(storage, commit, layout, tmp_path / "there")
    with pytest.raises(ConfigError, match="cannot be written"):
        export_commit(storage, commit, layout, tmp_path / "there" / "below")

    assert (tmp_path / "there").read_text() == "mine"
    assert not list(tmp_path.glob(".export-*"))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_others_may_read_an_export_as_they_may_any_new_file(
    tmp_path: Path, layout: str, add_commit: AddCommit, storage: Storage
) -> None:
    (tmp_path / "new").touch()

    export_commit(storage, add_commit(300), layout, tmp_path / "out")

    files = [path for path in (tmp_path / "out", *tmp_path.glob("out/*")) if path.is_file()]
    assert {path.stat().st_mode for path in files} == {(tmp_path / "new").stat().st_mode}


def test_an_unknown_step_is_refused_with_those_there_are(
    add_commit: AddCommit, storage: Storage
) -> None:
    with pytest.raises(MissingInputError, match="has no commit; make one with"):
        find_commit(storage, RUN, None)
    add_commit(0)
    add_commit(300)

    with pytest.raises(MissingInputError, match="no commit at step 200; it has: 0, 300"):
        find_commit(storage, RUN, 200)
    assert find_commit(storage, RUN, None).step == 300
    assert find_commit(storage, RUN, 0).step == 0
