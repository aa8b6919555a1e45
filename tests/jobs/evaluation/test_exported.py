"""Commits go out in every layout, come back bit for bit, and overwrite nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.checkpoint_export import LAYOUTS, export_commit, find_commit
from sigma_pipeline.jobs.checkpoints import load_weights
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.model.checkpoint_files import read_checkpoint
from tests.jobs.evaluation.conftest import RUN
from tests.jobs.evaluation.release_files import classifier, equal, write_release

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]
Import = Callable[..., Commit]


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
