"""Weights of teachers: both formats, and what is refused before or while they are read."""

import ast
import pickle
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from sigma_pipeline.model import teacher_weights
from sigma_pipeline.model.teacher_shapes import TEACHERS, TeacherName
from sigma_pipeline.model.teacher_weights import load_teacher
from tests.model.teacher_files import SMALL, original_state, target, write_folder

State = dict[str, Tensor]


@pytest.mark.usefixtures("small_teachers")
@pytest.mark.parametrize("name", ["dino.pth", "dino.safetensors"])
def test_a_dino_file_gives_the_network_of_the_same_folder(tmp_path: Path, name: str) -> None:
    state = original_state(SMALL["dino_s"], side=2)
    if name.endswith(".pth"):
        torch.save(state, tmp_path / name)
    else:
        safetensors.torch.save_file(state, tmp_path / name)
    from_file = load_teacher(target(tmp_path / name))

    from_file.save_pretrained(tmp_path / "folder")
    from_folder = load_teacher(target(tmp_path / "folder")).state_dict()

    assert from_folder.keys() == from_file.state_dict().keys()
    for key, tensor in from_file.state_dict().items():
        assert torch.equal(from_folder[key], tensor)


@pytest.mark.usefixtures("small_teachers")
@pytest.mark.parametrize("teacher", ["dino_s", "dinov2_s", "dinov3_s"])
def test_a_folder_is_read_without_gradients_in_float32_to_evaluate(
    tmp_path: Path, teacher: TeacherName
) -> None:
    written = write_folder(tmp_path, teacher).bfloat16()
    written.save_pretrained(tmp_path)

    network = load_teacher(target(tmp_path, teacher))

    assert not network.training
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    assert not any(weight.requires_grad for weight in network.parameters())
    for key, tensor in written.state_dict().items():
        assert torch.equal(network.state_dict()[key], tensor.float())


@pytest.mark.usefixtures("small_teachers")
def test_reading_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, "dino_s")
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address))
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))

    load_teacher(target(tmp_path))

    assert not asked


def lacking(state: State) -> object:
    return {name: tensor for name, tensor in state.items() if not name.startswith("blocks.1.")}


def full_checkpoint(state: State) -> object:
    return {f"module.backbone.{name}": tensor for name, tensor in state.items()}


def wider(state: State) -> object:
    return original_state(SMALL["dino_s"]._replace(embed_dim=64), side=2)


def reshaped(state: State) -> object:
    return state | {"norm.bias": torch.zeros(31)}


def other_patch(state: State) -> object:
    return original_state(SMALL["dino_s"]._replace(patch_size_px=8), side=2)


@pytest.mark.usefixtures("small_teachers")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lacking, r"dino\.pth lacks blocks\.1\.attn\.proj\.bias, .* and 8 more; expected is the"),
        (full_checkpoint, r"and 26 more; adds module\.backbone\.blocks\.0.* expected is"),
        (wider, "is 64 wide, where dino_s is 32 wide"),
        (reshaped, r"has in another shape layernorm\.bias"),
        (other_patch, r"has in another shape embeddings\.patch_embeddings"),
        (lambda state: {"teacher": state}, "holds something else than named tensors"),
        (lambda state: list(state.values()), "cannot be read: it holds a list"),
    ],
)
def test_a_file_with_other_tensors_is_refused(
    tmp_path: Path, change: Callable[[State], object], message: str
) -> None:
    path = tmp_path / "dino.pth"
    torch.save(change(original_state(SMALL["dino_s"], side=2)), path)

    with pytest.raises(ValueError, match=message):
        load_teacher(target(path))


class _Harmful:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (Path.touch, (Path("harm"),))  # type: ignore[return-value]


@pytest.mark.usefixtures("small_teachers")
@pytest.mark.parametrize("name", ["dino.pth", "dino.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>", pickle.dumps({"cls_token": 1}, protocol=2)])
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(ValueError, match=rf"{path} (cannot be read|holds something else)"):
        load_teacher(target(path))


@pytest.mark.usefixtures("small_teachers")
def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"cls_token": _Harmful()}, "dino.pth")

    with pytest.raises(ValueError, match=r"dino\.pth cannot be read"):
        load_teacher(target("dino.pth"))

    assert not Path("harm").exists()


@pytest.mark.usefixtures("small_teachers")
def test_a_folder_that_lacks_tensors_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, "dinov2_s")
    path = tmp_path / "model.safetensors"
    state = safetensors.torch.load_file(path)
    del state["layernorm.weight"]
    safetensors.torch.save_file(state, path, metadata={"format": "pt"})

    with pytest.raises(ValueError, match=rf"{tmp_path} lacks layernorm\.weight; expected is"):
        load_teacher(target(tmp_path, "dinov2_s"))


@pytest.mark.usefixtures("small_teachers")
def test_a_folder_with_damaged_weights_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, "dino_s")
    (tmp_path / "model.safetensors").write_bytes(b"damaged!" * 9)

    with pytest.raises(ValueError, match=rf"{tmp_path} cannot be read"):
        load_teacher(target(tmp_path))


def test_the_known_teachers_have_the_published_shapes() -> None:
    shapes = {
        name: (shape.embed_dim, shape.depth, shape.num_heads, shape.patch_size_px)
        for name, shape in TEACHERS.items()
    }

    small, base = (384, 12, 6), (768, 12, 12)
    assert shapes == {
        "dino_s": (*small, 16),
        "dino_b": (*base, 16),
        "dinov2_s": (*small, 14),
        "dinov2_b": (*base, 14),
        "dinov3_s": (*small, 16),
        "dinov3_b": (*base, 16),
    }


def test_the_model_is_imported_without_the_library_of_the_teachers() -> None:
    modules = sorted(Path(teacher_weights.__file__).parent.glob("*.py"))

    imports = {
        alias.name.partition(".")[0]
        for path in modules
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (
            node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")]
        )
    }

    assert "torch" in imports
    assert "transformers" not in imports
