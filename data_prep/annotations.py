"""What the annotation of a sample says, for benchmarks that ask."""

import json
from collections.abc import Mapping


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
