"""``--set key=value``: one setting of a recipe changed from the command line."""

from collections.abc import Iterable
from typing import Any

import yaml


class PlainLoader(yaml.SafeLoader):
    """YAML without Python objects, without aliases, and without keys that win over earlier ones.

    An override would change every place an alias stands for, and a few nested ones fill the memory.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A node; an alias is refused with its line."""
        if self.check_event(yaml.events.AliasEvent):
            where = parent.start_mark if parent is not None else None
            raise yaml.composer.ComposerError(
                None, None, "write the value out instead of using an alias", where
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; a key written twice is refused with its line."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen and isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key_node.value}' is written twice", key_node.start_mark
                )
            if isinstance(key_node, yaml.ScalarNode):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; raises ``yaml.YAMLError`` that names the line."""
    return yaml.load(text, Loader=PlainLoader)  # noqa: S506 - derived from SafeLoader


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> list[str]:
    """Writes each override into ``values``; returns what is wrong with those that cannot be.

    The value is typed as YAML types it: ``false``, ``null`` and ``[1, 2]`` are what they look like.
    Nothing after the ``=`` is the empty text. Numbers in the key step into lists.
    """
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            problems.append(f"--set {override!r}: write it as section.key=value")
            continue
        try:
            value = parse_yaml(text) if text.strip() else ""
        except yaml.YAMLError as error:
            reason = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            problems.append(f"--set {override!r}: the value is not valid YAML: {reason}")
            continue
        problem = _put(values, path, value)
        if problem:
            problems.append(f"--set {override!r}: {problem}")
    return problems


def _put(values: Any, path: list[str], value: Any) -> str | None:
    """Sets one leaf, making sections on the way; returns why it cannot be."""
    *sections, leaf = path
    here = values
    for depth, section in enumerate(sections):
        step = _step(here, section)
        if step is None:
            return _no_place(here, path[:depth], section)
        if isinstance(here, dict) and here.get(step) is None:
            here[step] = {}
        here = here[step]
    step = _step(here, leaf)
    if step is None:
        return _no_place(here, sections, leaf)
    here[step] = value
    return None


def _step(here: Any, part: str) -> str | int | None:
    """What to index ``here`` with; nothing when ``part`` leads nowhere."""
    if isinstance(here, dict):
        return part
    if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
        return int(part)
    return None


def _no_place(here: Any, path: list[str], part: str) -> str:
    where = ".".join(path)
    if isinstance(here, list):
        return f"'{where}' is a list of {len(here)}; '{part}' is not a place in it"
    return f"'{where}' is a value, not a section"
