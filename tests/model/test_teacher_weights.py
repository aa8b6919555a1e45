"""Weights of teachers: both formats, and what is refused before or while they are read."""

import ast
import json
import pickle
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from sigma_pipeline.model import teacher_weights
from sigma_pipeline.model.config import TargetConfig
from sigma_pipeline.model.teacher_shapes import TEACHERS, TeacherName
from sigma_pipeline.model.teacher_source import teacher_source
from sigma_pipeline.model.teacher_weights import load_teacher
from tests.model.teacher_files import SMALL, original_state, use_small_shapes, write_folder

State = dict[str, Tensor]


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_shapes(monkeypatch)


def target(weights: Path | str | None, teacher: TeacherName = "dino_s") -> TargetConfig:
    return TargetConfig(kind="dino", teacher=teacher, teacher_weights=weights and str(weights))


@pytest.mark.usefixtures("_small")
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


@pytest.mark.usefixtures("_small")
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


@pytest.mark.usefixtures("_small")
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


@pytest.mark.usefixtures("_small")
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


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("name", ["dino.pth", "dino.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>", pickle.dumps({"cls_token": 1}, protocol=2)])
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(ValueError, match=rf"{path} (cannot be read|holds something else)"):
        load_teacher(target(path))


@pytest.mark.usefixtures("_small")
def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"cls_token": _Harmful()}, "dino.pth")

    with pytest.raises(ValueError, match=r"dino\.pth cannot be read"):
        load_teacher(target("dino.pth"))

    assert not Path("harm").exists()


@pytest.mark.usefixtures("_small")
def test_a_folder_that_lacks_tensors_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, "dinov2_s")
    path = tmp_path / "model.safetensors"
    state = safetensors.torch.load_file(path)
    del state["layernorm.weight"]
    safetensors.torch.save_file(state, path, metadata={"format": "pt"})

    with pytest.raises(ValueError, match=rf"{tmp_path} lacks layernorm\.weight; expected is"):
        load_teacher(target(tmp_path, "dinov2_s"))


@pytest.mark.usefixtures("_small")
def test_a_folder_with_damaged_weights_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, "dino_s")
    (tmp_path / "model.safetensors").write_bytes(b"damaged!" * 9)

    with pytest.raises(ValueError, match=rf"{tmp_path} cannot be read"):
        load_teacher(target(tmp_path))


PUBLISHED = {
    "model_type": "vit",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 16,
}


def test_a_folder_is_found_by_its_settings_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED))
    (tmp_path / "model.safetensors").touch()

    assert teacher_source(target(tmp_path, "dino_b")) == ("dino_b", tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no config.json; expected is"),
        ({"config.json": "{"}, "has a config.json that is not JSON"),
        ({"config.json": "[]"}, "has a config.json that holds no settings"),
        ({"config.json": json.dumps(PUBLISHED)}, r"has no model\.safetensors"),
        (
            {"config.json": json.dumps(PUBLISHED), "pytorch_model.bin": ""},
            r"has no model\.safetensors",
        ),
        (
            {"config.json": json.dumps(PUBLISHED | {"hidden_size": 384, "patch_size": 8})},
            "has a config.json with hidden_size=384 instead of 768, patch_size=8 instead of 16",
        ),
    ],
)
def test_a_folder_that_is_none_is_refused_with_what_is_expected(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)

    with pytest.raises(ValueError, match=rf"{tmp_path} {message}"):
        teacher_source(target(tmp_path, "dino_b"))


@pytest.mark.parametrize(
    ("weights", "teacher", "message"),
    [
        (None, "dino_b", r"target\.teacher_weights is not set; it names the backbone's \.pth"),
        ("facebook/dino-vitb16", "dino_b", "does not exist, and nothing is downloaded; expected"),
        (__file__, "dino_b", r"test_teacher_weights\.py ends in none of \.pth, \.safetensors"),
        (__file__, "dinov3_b", "is a file, and dinov3_b is read from a folder; expected is the "
         "local folder of facebook/dinov3-vitb16-pretrain-lvd1689m"),
    ],
)  # fmt: skip
def test_a_path_to_something_else_is_refused(
    weights: str | None, teacher: TeacherName, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        teacher_source(target(weights, teacher))


def test_a_target_that_is_learned_has_no_weights_to_look_for() -> None:
    with pytest.raises(ValueError, match=r"target\.kind=mlp has no frozen teacher"):
        teacher_source(TargetConfig())


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
