"""The JSON member of a sample, for readers that have no index."""

import json
from typing import Any

from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.keys import printable
from sigma_pipeline.data_prep.probe import Probe


def describe(item: Item, facts: Probe, annotation: str | None) -> bytes:
    """What is known of ``item``, of which ``facts`` were found in what is stored."""
    value: dict[str, Any] = {
        "source": printable(item.name),
        "media": item.media,
        "class_name": item.class_name,
        "label": item.label,
        "frames": facts.frames,
        "fps": facts.fps,
        "width": facts.width,
        "height": facts.height,
        "rotation": facts.rotation,
        "annotation": None if annotation is None else json.loads(annotation),
    }
    if item.labels:
        value["labels"] = item.labels
    if item.group is not None:
        value["group"] = item.group
    if item.segment:
        value["segment"] = item.segment
    return json.dumps(value, sort_keys=True).encode()
