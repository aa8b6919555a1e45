"""The JSON member of a sample."""

import json

from sigma_pipeline.data_prep.description import describe
from sigma_pipeline.data_prep.items import Item, Segment
from sigma_pipeline.data_prep.probe import Probe

FACTS = Probe(6, 10.0, 40, 24, 0, (0, 4), (0, 512), "h264", "mov,mp4")


def test_it_says_what_the_index_says_of_a_sample() -> None:
    item = Item("walk/a.mp4", "video", (), "train", "walk", 1)

    assert json.loads(describe(item, FACTS, '{"x":1}')) == {
        "source": "walk/a.mp4",
        "media": "video",
        "class_name": "walk",
        "label": 1,
        "frames": 6,
        "fps": 10.0,
        "width": 40,
        "height": 24,
        "rotation": 0,
        "annotation": {"x": 1},
    }


def test_labels_segments_and_groups_are_there_where_an_item_has_them() -> None:
    item = Item("a.mp4", "video", (), "train", labels=(3, 5), segment=Segment(1.5, 2), group="ann")

    described = json.loads(describe(item, FACTS, None))

    assert (described["labels"], described["segment"]) == ([3, 5], [1.5, 2])
    assert described["annotation"] is None
    assert described["group"] == "ann"
