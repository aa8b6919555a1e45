"""What the annotation of a sample says, for benchmarks that ask."""

import json
from collections.abc import Mapping
from itertools import pairwise


def object_categories(annotation: str | None) -> Mapping[int, str]:
    """Categories of marked objects by id: those of ``{"objects": {"1": {"category": "dog"}}}``.

    Annotations may be of any other form: what is not like this says nothing.
    """
    value = None if annotation is None else json.loads(annotation)
    objects = value.get("objects") if isinstance(value, dict) else None
    if not isinstance(objects, dict):
        return {}
    return {
        int(number): found["category"]
        for number, found in objects.items()
        if number.isdecimal() and isinstance(found, dict) and isinstance(found.get("category"), str)
    }


def cycle_boundaries(annotation: str | None) -> tuple[int, ...] | None:
    """Frames, counted from the sample's first, between which the cycles of an action lie.

    Those of ``{"boundaries": [12, 30, 49]}``, ascending and two or more; None without such.
    """
    value = None if annotation is None else json.loads(annotation)
    found = value.get("boundaries") if isinstance(value, dict) else None
    if not isinstance(found, list) or len(found) < 2 or not all(type(n) is int for n in found):
        return None
    is_ascending = found[0] >= 0 and all(a < b for a, b in pairwise(found))
    return tuple(found) if is_ascending else None
