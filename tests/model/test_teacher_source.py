"""Where a teacher's weights lie: what is refused before they are read, and what is read."""

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pytest

from sigma_pipeline.model.config import TargetConfig
from sigma_pipeline.model.teacher_shapes import TeacherName
from sigma_pipeline.model.teacher_source import teacher_sha256, teacher_source
from tests.model.teacher_files import target

PUBLISHED = {
    "model_type": "vit",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 16,
}
SETTINGS, INDEX = "config.json", "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def put(folder: Path, files: Mapping[str, str]) -> Path:
    """A folder with the published settings and these files."""
    folder.mkdir(exist_ok=True)
    for name, content in ({SETTINGS: json.dumps(PUBLISHED)} | dict(files)).items():
        (folder / name).write_text(content)
    return folder


def index_of(*names: object) -> str:
    """An index that has one tensor in each of the shards that it names."""
    weight_map = {f"tensor{number}": name for number, name in enumerate(names)}
    return json.dumps({"metadata": {}, "weight_map": weight_map})


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
        (__file__, "dino_b", r"test_teacher_source\.py ends in none of \.pth, \.safetensors"),
        (__file__, "dinov3_b", "is a file, and dinov3_b is read from a folder; expected is the "
         "local folder of facebook/dinov3-vitb16-pretrain-lvd1689m"),
    ],
)  # fmt: skip
def test_a_path_to_something_else_is_refused(
    weights: str | None, teacher: TeacherName, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        teacher_source(target(weights, teacher))


def test_a_folder_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()

    with pytest.raises(ValueError, match=rf"{tmp_path} cannot be read \(Is a directory\)"):
        teacher_source(target(tmp_path, "dino_b"))


def test_a_file_that_may_not_be_opened_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dino.pth"
    path.touch()
    refuse = mock.Mock(side_effect=PermissionError(errno.EACCES, "Permission denied"))
    monkeypatch.setattr(Path, "open", refuse)

    with pytest.raises(ValueError, match=rf"{path} cannot be read \(Permission denied\)"):
        teacher_source(target(path, "dino_b"))


def test_a_target_that_is_learned_has_no_weights_to_look_for() -> None:
    with pytest.raises(ValueError, match=r"target\.kind=mlp has no frozen teacher"):
        teacher_source(TargetConfig())


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (index_of(*SHARDS), rf"no {SHARDS[1]}, which its {INDEX} names"),
        (
            index_of("../b.safetensors"),
            r"that names '\.\./b\.safetensors', no \.safetensors file in",
        ),
        (index_of("model.bin"), r"that names 'model\.bin', no \.safetensors file in it"),
        (index_of(7), r"that names 7, no \.safetensors file in it"),
        (index_of(), "without metadata and weight_map"),
        (json.dumps({"weight_map": {"a": SHARDS[0]}}), "without metadata and weight_map"),
        ("{", "that is not JSON"),
        ("[]", "that holds no settings"),
    ],
)
def test_an_index_of_weights_that_are_not_in_the_folder_is_refused(
    tmp_path: Path, index: str, message: str
) -> None:
    put(tmp_path, {INDEX: index, SHARDS[0]: ""})

    with pytest.raises(ValueError, match=rf"{tmp_path} has .*{message}"):
        teacher_source(target(tmp_path, "dino_b"))


def test_a_link_to_a_shard_that_has_gone_is_no_shard(tmp_path: Path) -> None:
    put(tmp_path, {INDEX: index_of(SHARDS[0])})
    (tmp_path / SHARDS[0]).symlink_to("blobs/gone")

    for look in (teacher_source, teacher_sha256):
        with pytest.raises(ValueError, match=f"has no {SHARDS[0]}"):
            look(target(tmp_path, "dino_b"))


ONE_FILE = {"model.safetensors": "w"}
SHARDED = {INDEX: index_of(*SHARDS), SHARDS[0]: "1", SHARDS[1]: "2"}


@pytest.mark.parametrize(
    ("files", "unread"),
    [
        (ONE_FILE, {"model.fp16.safetensors": "h"}),
        (ONE_FILE, {INDEX: index_of("gone.safetensors"), SHARDS[0]: "1"}),
        (SHARDED, {"model-00003-of-00003.safetensors": "3"}),
    ],
)
def test_a_file_beside_those_that_are_read_does_not_make_another_teacher(
    tmp_path: Path, files: dict[str, str], unread: dict[str, str]
) -> None:
    first, second = (
        teacher_sha256(target(put(tmp_path / name, content), "dino_b"))
        for name, content in (("a", files), ("b", files | unread))
    )

    assert first == second


@pytest.mark.parametrize(
    "changes", [{SHARDS[1]: "other"}, {INDEX: index_of(*SHARDS, *SHARDS)}, ONE_FILE]
)
def test_a_change_of_what_is_read_makes_another_teacher(
    tmp_path: Path, changes: dict[str, str]
) -> None:
    first, second = (
        teacher_sha256(target(put(tmp_path / name, content), "dino_b"))
        for name, content in (("a", SHARDED), ("b", SHARDED | changes))
    )

    assert first != second


def test_weights_that_can_be_opened_and_not_read_are_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dino.pth"
    path.touch()
    fail = mock.Mock(side_effect=OSError(errno.EIO, "Input/output error"))
    monkeypatch.setattr("hashlib.file_digest", fail)

    with pytest.raises(ValueError, match=rf"{path} cannot be read \(Input/output error\)"):
        teacher_sha256(target(path, "dino_b"))
