"""Where a frozen teacher's weights lie, and whether that can be what the recipe names.

Looks at names and at ``config.json`` only, so that a recipe is refused before anything starts.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sigma_pipeline.model.config import TargetConfig
from sigma_pipeline.model.teacher_shapes import TEACHERS, TeacherName

_MODEL_TYPES = {"dino": "vit", "dinov2": "dinov2_with_registers", "dinov3": "dinov3_vit"}
_FILE_SUFFIXES = (".pth", ".safetensors")
_WEIGHTS_NAMES = ("model.safetensors", "model.safetensors.index.json")
_SHOWN_NAMES = 4


def teacher_source(target: TargetConfig) -> tuple[TeacherName, Path]:
    """Name of the teacher, and the file or folder that holds its weights.

    Raises:
        ValueError: no such file or folder, or one that cannot be this teacher; says what is
            expected there.
    """
    if target.teacher is None:
        raise ValueError(f"target.kind={target.kind} has no frozen teacher")
    expected = _expected(target.teacher)
    if target.teacher_weights is None:
        raise ValueError(
            f"target.teacher_weights is not set; it names {expected}; nothing is downloaded"
        )
    path = Path(target.teacher_weights)
    problem = _problem(target.teacher, path)
    if problem:
        raise refusal(target.teacher, path, problem)
    return target.teacher, path


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


def _problem(teacher: TeacherName, path: Path) -> str:
    """What is wrong with the path, or nothing."""
    if path.is_dir():
        return _folder_problem(teacher, path)
    if not path.is_file():
        return "does not exist, and nothing is downloaded"
    if TEACHERS[teacher].family != "dino":
        return f"is a file, and {teacher} is read from a folder"
    return "" if path.suffix in _FILE_SUFFIXES else f"ends in none of {', '.join(_FILE_SUFFIXES)}"


def _folder_problem(teacher: TeacherName, folder: Path) -> str:
    try:
        given = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        return "has no config.json"
    except ValueError as error:
        return f"has a config.json that is not JSON ({error})"
    if not isinstance(given, dict):
        return "has a config.json that holds no settings"
    wanted = _published_settings(teacher)
    differences = [
        f"{key}={given.get(key)} instead of {value}"
        for key, value in wanted.items()
        if given.get(key) != value
    ]
    if differences:
        return f"has a config.json with {', '.join(differences)}"
    if not any((folder / name).is_file() for name in _WEIGHTS_NAMES):
        return "has no model.safetensors"
    return ""


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
