"""Official files: all of theirs is understood, and nothing in them is run."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.official import read_official, write_official

Release = Callable[[Mapping[str, Tensor]], Path]


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """What the pickle asks for."""
        return eval, (f"open({self.path!r}, 'w')",)


def test_weights_are_found_beside_optimizer_scaler_and_command_line(
    release: Release, state: dict[str, Tensor]
) -> None:
    loaded, settings = read_official(release(state))

    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert settings == {}


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("place", ["args", "model"])
def test_a_malicious_file_is_refused_by_name_and_not_run(
    tmp_path: Path, state: dict[str, Tensor], place: str, *, is_zip: bool
) -> None:
    content = {"model": state, place: Malicious(tmp_path / "was-run")}
    path = tmp_path / "malicious.pth"
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)

    with pytest.raises(ValueError, match=r"asks for eval, which .* may be malicious"):
        read_official(path)

    assert not (tmp_path / "was-run").exists()


def test_a_plain_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "malicious.pth"
    path.write_bytes(pickle.dumps(Malicious(tmp_path / "was-run")))

    with pytest.raises(ValueError, match=r"it is no whole PyTorch file .*Unsupported operand"):
        read_official(path)

    assert not (tmp_path / "was-run").exists()


def test_a_file_in_pytorchs_older_format_is_read(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "old.pth"
    torch.save({"model": state}, path, _use_new_zipfile_serialization=False)

    loaded, _ = read_official(path)

    assert all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.parametrize("kept_fraction", [0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(
    release: Release, state: dict[str, Tensor], kept_fraction: float
) -> None:
    path = release(state)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept_fraction * len(content))])

    with pytest.raises(ValueError, match="it is no whole PyTorch file"):
        read_official(path)


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, {"model": [1]}])
def test_a_file_without_a_state_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pth")

    with pytest.raises(ValueError, match=r"not a table of tensors|there is no state dict in it"):
        read_official(tmp_path / "other.pth")


def test_what_is_written_is_read_without_any_exception_to_safe_loading(
    tmp_path: Path, config: ModelConfig, state: dict[str, Tensor]
) -> None:
    path = tmp_path / "ours.pth"

    write_official(path, state, config, epoch=3)

    content = torch.load(path, weights_only=True)
    assert content["epoch"] == 3
    assert content["model"].keys() == state.keys()
    assert all(torch.equal(content["model"][name], state[name]) for name in state)


def test_heads_and_clip_of_an_own_file_are_found_again(
    tmp_path: Path, config: ModelConfig, state: dict[str, Tensor]
) -> None:
    write_official(tmp_path / "ours.pth", state, config, epoch=0)

    _, settings = read_official(tmp_path / "ours.pth")

    assert ModelConfig.model_validate(settings) == config


def test_where_a_teacher_lies_on_this_machine_is_not_written(tmp_path: Path) -> None:
    target = {"kind": "dino", "teacher": "dino_s", "teacher_weights": "/home/me/dino.pth"}
    config = ModelConfig.model_validate({"target": target})

    write_official(tmp_path / "ours.pth", {"encoder.x": torch.zeros(1)}, config, epoch=0)

    assert b"/home/me" not in (tmp_path / "ours.pth").read_bytes()
