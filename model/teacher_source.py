"""Where a frozen teacher's weights lie, whether that can be what the recipe names, and what it is.

Looks at names and at ``config.json``, and opens what is named without reading it, so that a recipe
is refused before anything starts. Only ``teacher_sha256`` reads the weights.
"""

import hashlib
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sigma_pipeline.model.config import TargetConfig
from sigma_pipeline.model.teacher_shapes import TEACHERS, TeacherName

_MODEL_TYPES = {"dino": "vit", "dinov2": "dinov2_with_registers", "dinov3": "dinov3_vit"}
_FILE_SUFFIXES = (".pth", ".safetensors")
_SETTINGS_NAME = "config.json"
_WEIGHTS_NAME = "model.safetensors"
_INDEX_NAME = "model.safetensors.index.json"
# Leads out of no folder, and ``transformers`` would unpickle a shard of any other suffix.
_SHARD_NAME = re.compile(r"[\w.-]+\.safetensors", re.ASCII)
_SHOWN_NAMES = 4


def teacher_source(target: TargetConfig) -> tuple[TeacherName, Path]:
    """Name of the teacher, and the file or folder that holds its weights.

    Raises:
        ValueError: no such file or folder, or one that cannot be this teacher; says what is
            expected there.
    """
    teacher, path, _ = _found(target)
    return teacher, path


def teacher_sha256(target: TargetConfig) -> str:
    """Which weights these are, wherever they lie; about a second for a ViT-B.

    Of a file its sha256; of a folder that of the lines ``sha256sum`` prints for the files in it
    that are read. The same weights in the other format have another one.

    Raises:
        ValueError: as ``teacher_source``, or they can be opened and not read.
    """
    teacher, path, files = _found(target)
    try:
        hashes = {file.name: _file_sha256(file) for file in files}
    except OSError as error:
        raise refusal(teacher, path, _unreadable(error)) from error
    if files == [path]:
        return hashes[path.name]
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in hashes.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _found(target: TargetConfig) -> tuple[TeacherName, Path, list[Path]]:
    """As ``teacher_source``, and the files there that are read."""
    if target.teacher is None:
        raise ValueError(f"target.kind={target.kind} has no frozen teacher")
    expected = _expected(target.teacher)
    if target.teacher_weights is None:
        raise ValueError(
            f"target.teacher_weights is not set; it names {expected}; nothing is downloaded"
        )
    path = Path(target.teacher_weights)
    try:
        return target.teacher, path, _readable_files(target.teacher, path)
    except OSError as error:
        raise refusal(target.teacher, path, _unreadable(error)) from error
    except ValueError as error:
        raise refusal(target.teacher, path, str(error)) from error


def refusal(teacher: TeacherName, path: Path, problem: str) -> ValueError:
    """The error that says what is wrong with a teacher's weights, and what is expected."""
    return ValueError(f"target.teacher_weights={path} {problem}; expected is {_expected(teacher)}")


def require_tensors(
    teacher: TeacherName,
    path: Path,
    *,
    missing: Collection[str] = (),
    unknown: Collection[str] = (),
    misshapen: Collection[str] = (),
) -> None:
    """Refuses weights of which some tensors are not as they should be.

    Raises:
        ValueError: there are such tensors; counts them and names the first.
    """
    problems = [
        f"{verb} {', '.join(sorted(names)[:_SHOWN_NAMES])}"
        + (f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else "")
        for verb, names in (
            ("lacks", missing),
            ("adds", unknown),
            ("has in another shape", misshapen),
        )
        if names
    ]
    if problems:
        raise refusal(teacher, path, "; ".join(problems))


def _expected(teacher: TeacherName) -> str:
    folder = (
        f"the local folder of {TEACHERS[teacher].published_as} (config.json, model.safetensors)"
    )
    if TEACHERS[teacher].family != "dino":
        return folder
    return f"the backbone's .pth file as DINO published it, or {folder}"


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error})"


def _readable_files(teacher: TeacherName, path: Path) -> list[Path]:
    """The files that this teacher is read from; all can be opened.

    Raises:
        ValueError: what is wrong with the path, as the rest of a sentence about it.
        OSError: a file may not be read, or its disk is gone.
    """
    if path.is_dir():
        _check_settings(teacher, path)
        files = [path / _SETTINGS_NAME, *_weights_files(path)]
    else:
        _check_file(teacher, path)
        files = [path]
    for file in files:
        with file.open("rb"):
            pass
    return files


def _check_file(teacher: TeacherName, path: Path) -> None:
    if not path.is_file():
        raise ValueError("does not exist, and nothing is downloaded")
    if TEACHERS[teacher].family != "dino":
        raise ValueError(f"is a file, and {teacher} is read from a folder")
    if path.suffix not in _FILE_SUFFIXES:
        raise ValueError(f"ends in none of {', '.join(_FILE_SUFFIXES)}")


def _check_settings(teacher: TeacherName, folder: Path) -> None:
    try:
        given = _read_settings(folder / _SETTINGS_NAME)
    except FileNotFoundError as error:
        raise ValueError(f"has no {_SETTINGS_NAME}") from error
    differences = [
        f"{key}={given.get(key)} instead of {value}"
        for key, value in _published_settings(teacher).items()
        if given.get(key) != value
    ]
    if differences:
        raise ValueError(f"has a {_SETTINGS_NAME} with {', '.join(differences)}")


def _weights_files(folder: Path) -> list[Path]:
    """What ``transformers`` reads weights from: the one file, else the index and its shards."""
    if (folder / _WEIGHTS_NAME).is_file():
        return [folder / _WEIGHTS_NAME]
    if not (folder / _INDEX_NAME).is_file():
        raise ValueError(f"has no {_WEIGHTS_NAME}")
    shards = _shard_names(folder / _INDEX_NAME)
    missing = sorted(name for name in shards if not (folder / name).is_file())
    if missing:
        raise ValueError(f"has no {missing[0]}, which its {_INDEX_NAME} names")
    return [folder / name for name in sorted({*shards, _INDEX_NAME})]


def _shard_names(index: Path) -> set[str]:
    given = _read_settings(index)
    shard_of_tensor = given.get("weight_map")
    if not isinstance(shard_of_tensor, dict) or not shard_of_tensor or "metadata" not in given:
        raise ValueError(f"has a {index.name} without metadata and weight_map")
    for name in shard_of_tensor.values():
        if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name):
            raise ValueError(f"has a {index.name} that names {name!r}, no .safetensors file in it")
    return set(shard_of_tensor.values())


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"has a {path.name} that is not JSON ({error})") from error
    if not isinstance(given, dict):
        raise ValueError(f"has a {path.name} that holds no settings")
    return given


def _published_settings(teacher: TeacherName) -> dict[str, Any]:
    """What ``config.json`` must say of this teacher's shape."""
    shape = TEACHERS[teacher]
    settings = {
        "model_type": _MODEL_TYPES[shape.family],
        "hidden_size": shape.embed_dim,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.num_heads,
        "patch_size": shape.patch_size_px,
    }
    return settings | ({"num_register_tokens": shape.num_registers} if shape.num_registers else {})
