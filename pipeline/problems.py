"""What is wrong with a configuration, said in the user's words: one line per dotted key."""

import difflib
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_KEY = "[key]"
"""What pydantic adds to the place of a mapping's key that is itself wrong."""


def describe(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """One line per wrong key, in the order of the configuration; unknown keys with a near miss."""
    lines: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        location = _real_keys(detail["loc"], root)
        sentence = _sentence(detail, location, root)
        sentences = lines.setdefault(".".join(map(str, location)), [])
        if sentence not in sentences:
            sentences.append(sentence)
    return [f"{key or 'recipe'}: {', or '.join(lines[key])}" for key in lines]


def _sentence(detail: ErrorDetails, location: tuple[str | int, ...], root: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        section = _annotation_at(root, location[:-1])
        return _unknown_key(str(location[-1]), _field_names(section))
    if detail["type"] == "missing":
        return "is required"
    if detail["type"] == "string_pattern_mismatch":
        signs = "'.', '_' and '-'" if "." in detail["ctx"]["pattern"] else "'_' and '-'"
        return f"a name has letters, digits, {signs} only (got {detail['input']!r})"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] in {"value_error", "agreement"}:
        return message
    given = detail["input"]
    shown = f" (got {given!r})" if isinstance(given, str | int | float | None) else ""
    return f"{message[0].lower()}{message[1:]}{shown}"


def _unknown_key(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"unknown key; did you mean '{close[0]}'?"
    return f"unknown key; known here: {', '.join(known)}"


def _field_names(section: Any) -> list[str]:
    for candidate in _alternatives(section):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return list(candidate.model_fields)
    return []


def _real_keys(location: tuple[str | int, ...], root: type[BaseModel]) -> tuple[str | int, ...]:
    """Drops the names of union branches and the like that pydantic puts between the keys."""
    real: list[str | int] = []
    here: Any = root
    for position, part in enumerate(location, start=1):
        inner = _inner(here, part)
        is_unknown_key = position == len(location) and part != _KEY and bool(_field_names(here))
        if inner is not None or is_unknown_key:
            real.append(part)
            here = inner
    return tuple(real)


def _annotation_at(root: type[BaseModel], location: tuple[str | int, ...]) -> Any:
    here: Any = root
    for part in location:
        here = _inner(here, part)
    return here


def _inner(annotation: Any, part: str | int) -> Any:
    """Type of what ``part`` leads to inside ``annotation``; nothing when it leads nowhere."""
    for candidate in _alternatives(annotation):
        origin, arguments = get_origin(candidate), get_args(candidate)
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            field = candidate.model_fields.get(str(part))
            if field is not None:
                return field.annotation
        elif origin in (dict, Mapping) and part != _KEY:
            return arguments[1]
        elif origin in (tuple, list) and isinstance(part, int):
            return arguments[0]
    return None


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The branches of a union; any other type is its own only branch."""
    if get_origin(annotation) in (tuple, list, dict, Mapping) or isinstance(annotation, type):
        return (annotation,)
    return get_args(annotation) or (annotation,)
