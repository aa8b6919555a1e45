"""What annotations say of objects."""

import pytest

from sigma_pipeline.data_prep.annotations import object_categories


def test_categories_of_objects_are_found_by_their_ids() -> None:
    text = '{"fps": 6, "objects": {"1": {"category": "ape", "frames": [0]}, "12": {}, "x": 1}}'

    assert object_categories(text) == {1: "ape"}


@pytest.mark.parametrize("text", [None, "[1]", "{}", '{"objects": [1]}', '{"objects": {"1": 2}}'])
def test_annotations_of_other_forms_say_nothing(text: str | None) -> None:
    assert object_categories(text) == {}
